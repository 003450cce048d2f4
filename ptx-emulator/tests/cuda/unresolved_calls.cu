// Calls that cannot be resolved beforehand: through a pointer to a function, and recursive.
__device__ __noinline__ int twice(int x) { return 2 * x; }
__device__ __noinline__ int square(int x) { return x * x; }

extern "C" __global__ void indirect_call(const int *x, int *out) {
    int (*f)(int) = x[threadIdx.x] % 2 ? twice : square;
    out[threadIdx.x] = f(x[threadIdx.x]);
}

__device__ __noinline__ unsigned fibonacci(unsigned n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
extern "C" __global__ void recursive_call(const int *x, int *out) { out[threadIdx.x] = fibonacci(x[threadIdx.x]); }
