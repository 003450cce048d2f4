// Functions that are not inlined: structs by value, as results, and pointers to the caller's locals.
// Without padding, which unoptimised code would copy unset.
struct Pair { double sum; int count; char tag, rest[3]; };

__device__ __noinline__ Pair add(Pair a, Pair b) {
    Pair r = {a.sum + b.sum, a.count + b.count, (char)(a.tag > b.tag ? a.tag : b.tag)};
    return r;
}
__device__ __noinline__ void divide(int a, int b, int *quotient, int *rest) { *quotient = a / b, *rest = a % b; }

extern "C" __global__ void calls(const int *x, double *sums, int *out) {
    int t = threadIdx.x, quotient, rest;
    Pair p = {0, 0, 0};
    for (int i = 0; i <= t % 5; ++i) p = add(p, Pair{x[t] * 0.5, 1, (char)(i * 7 % 4)});
    divide(x[t], 7, &quotient, &rest);
    sums[t] = p.sum;
    int *o = out + 4 * t;
    o[0] = p.count, o[1] = p.tag, o[2] = quotient, o[3] = rest;
}
