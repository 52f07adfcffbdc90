/* Huffman's codes for seventeen leaves, and their canonical tree: exactly as prefix_numpy.py has them. */
#ifndef MP_PREFIX_TREE_H
#define MP_PREFIX_TREE_H

#include "native.h"

#define WINDOW 16
#define LEAVES (WINDOW + 1)
#define PREFIX_HEADER_BYTES (1 + LEAVES)
#define NODE 32 /* added to the number of an inner node, where a side may be a leaf or a node */

typedef struct {
    int nodes;            /* inner ones, from the root, by depth */
    int sides[LEAVES][2]; /* a leaf, or NODE + node */
} PrefixTree;

/* Lengths of codes; no count is zero. */
void prefix_lengths(const u32 *counts, int *lengths);

/* False: these are the lengths of no tree. */
bool prefix_tree(const int *lengths, PrefixTree *tree);

/* Bit n of second[leaf]: the leaf lies on the second side of node n. */
void prefix_paths(const PrefixTree *tree, u32 *second);

#endif
