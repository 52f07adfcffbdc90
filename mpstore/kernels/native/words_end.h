/* Forget the width that distance_words.h and what stands on it were included for. */
#undef WORD
#undef NAME
#undef BITS
#undef TOP
#undef HALVES
