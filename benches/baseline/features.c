#include "baseline.h"

/* The extensions that this compilation may use, a bit each, as src/ffi.rs numbers them. Nothing but a constant, so that it
 * runs on any CPU. */
unsigned NAME(features)(void) {
    unsigned features = 0;
#ifdef __AVX__
    features |= 1u << 0;
#endif
#ifdef __AVX2__
    features |= 1u << 1;
#endif
#ifdef __FMA__
    features |= 1u << 2;
#endif
#ifdef __BMI__
    features |= 1u << 3;
#endif
#ifdef __BMI2__
    features |= 1u << 4;
#endif
#ifdef __LZCNT__
    features |= 1u << 5;
#endif
#ifdef __AVX512F__
    features |= 1u << 6;
#endif
#ifdef __AVX512BW__
    features |= 1u << 7;
#endif
#ifdef __AVX512DQ__
    features |= 1u << 8;
#endif
#ifdef __AVX512VL__
    features |= 1u << 9;
#endif
#ifdef __ARM_FEATURE_SVE
    features |= 1u << 10;
#endif
#ifdef __ARM_FEATURE_SVE2
    features |= 1u << 11;
#endif
    return features;
}
