// Functions that are not inlined: structs by value and as results, pointers to the caller's locals, recursion,
// a pointer to a function.
struct Pair { double sum; int count; char tag; };

__device__ __noinline__ Pair add(Pair a, Pair b) {
    Pair r = {a.sum + b.sum, a.count + b.count, (char)(a.tag > b.tag ? a.tag : b.tag)};
    return r;
}
__device__ __noinline__ void divide(int a, int b, int *quotient, int *rest) { *quotient = a / b, *rest = a % b; }
__device__ __noinline__ unsigned fibonacci(unsigned n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
__device__ __noinline__ int twice(int x) { return 2 * x; }
__device__ __noinline__ int square(int x) { return x * x; }

extern "C" __global__ void calls(const int *x, double *sums, int *out) {
    int t = threadIdx.x, quotient, rest;
    Pair p = {0, 0, 0};
    for (int i = 0; i <= t % 5; ++i) p = add(p, Pair{x[t] * 0.5, 1, (char)(i * 7 % 4)});
    divide(x[t], 7, &quotient, &rest);
    int (*f)(int) = x[t] % 2 ? twice : square;
    sums[t] = p.sum;
    int *o = out + 6 * t;
    o[0] = p.count, o[1] = p.tag, o[2] = quotient, o[3] = rest, o[4] = fibonacci(t % 9), o[5] = f(x[t]);
}
