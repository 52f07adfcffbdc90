/* Forget the width that rice_words.h and rice_body.h were included for. */
#undef WORD
#undef NAME
#undef BITS
#undef TOP
#undef HALVES
