/* Huffman's construction and canonical trees: see prefix_tree.h. */
#include "prefix_tree.h"

void prefix_lengths(const u32 *counts, int *lengths) {
    u64 weights[LEAVES];
    u32 leaves[LEAVES]; /* of each tree that is not joined yet: its leaves as bits, */
    int order[LEAVES];  /* and when it was made */
    int trees = 0, made = LEAVES;
    for (int leaf = 0; leaf < LEAVES; leaf++) {
        lengths[leaf] = 0;
        weights[trees] = counts[leaf];
        leaves[trees] = (u32)1 << leaf;
        order[trees++] = leaf;
    }
    while (trees > 1) {
        u64 weight = 0;
        u32 joined = 0;
        for (int turn = 0; turn < 2; turn++) {
            int low = 0;
            for (int t = 1; t < trees; t++)
                if (weights[t] < weights[low] || (weights[t] == weights[low] && order[t] < order[low])) low = t;
            weight += weights[low];
            joined |= leaves[low];
            trees--;
            weights[low] = weights[trees];
            leaves[low] = leaves[trees];
            order[low] = order[trees];
        }
        for (int leaf = 0; leaf < LEAVES; leaf++) lengths[leaf] += (joined >> leaf) & 1;
        weights[trees] = weight;
        leaves[trees] = joined;
        order[trees++] = made++;
    }
}

/* The next leaf with codes of this length, LEAVES: there is none. */
static int next_leaf(const int *lengths, int depth, int leaf) {
    while (leaf < LEAVES && lengths[leaf] != depth) leaf++;
    return leaf;
}

bool prefix_tree(const int *lengths, PrefixTree *tree) {
    int placed = 0, here = 1, parents = 0; /* parents: the first node whose sides come next */
    tree->nodes = 0;
    for (int depth = 0; here > 0; depth++) {
        int leaf = next_leaf(lengths, depth, 0), inner = 0;
        for (int place = 0; place < here; place++) {
            int side = leaf;
            if (leaf < LEAVES) {
                leaf = next_leaf(lengths, depth, leaf + 1);
                placed++;
            } else {
                if (tree->nodes == LEAVES - 1) return false;
                side = NODE + tree->nodes++;
                inner++;
            }
            if (depth > 0) tree->sides[parents + place / 2][place % 2] = side;
        }
        if (leaf < LEAVES) return false; /* more leaves than nodes */
        if (depth > 0) parents += here / 2;
        here = 2 * inner;
    }
    return placed == LEAVES;
}

void prefix_paths(const PrefixTree *tree, u32 *second) {
    u32 under[LEAVES] = {0}; /* of each node: its leaves as bits */
    memset(second, 0, LEAVES * sizeof *second);
    for (int node = tree->nodes - 1; node >= 0; node--) {
        for (int side = 0; side < 2; side++) {
            int child = tree->sides[node][side];
            u32 leaves = child >= NODE ? under[child - NODE] : (u32)1 << child;
            under[node] |= leaves;
            for (int leaf = 0; side == 1 && leaf < LEAVES; leaf++) second[leaf] |= ((leaves >> leaf) & 1) << node;
        }
    }
}
