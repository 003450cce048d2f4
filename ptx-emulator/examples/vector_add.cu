// The sum of two arrays, one element a thread, with a tail that is cut off.
extern "C" __global__ void vector_add(const float *x, const float *y, float *out, unsigned n) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = x[i] + y[i];
}
