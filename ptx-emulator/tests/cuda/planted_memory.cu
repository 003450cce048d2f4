// Planted: accesses that leave their buffer. The faulty line of each kernel is marked.
extern "C" __global__ void read_past_end(const float *x, float *out, unsigned n) {
    unsigned i = threadIdx.x;
    if (i < n) out[i] =
        x[i + 1]; // planted: read_past_end
}
extern "C" __global__ void write_past_end(float *out, unsigned n) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n)
        out[i] = 1; // planted: write_past_end
}
extern "C" __global__ void write_into_neighbour(float *out, unsigned n) {
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x)
        out[i] = i; // planted: write_into_neighbour
}
extern "C" __global__ void read_before(const int *x, int *out) {
    out[threadIdx.x] =
        x[(int)threadIdx.x - 1]; // planted: read_before
}
extern "C" __global__ void null_pointer(int *out) {
    *out = 1; // planted: null_pointer
}
extern "C" __global__ void misaligned(const float *x, float4 *out) {
    out[threadIdx.x] =
        *reinterpret_cast<const float4 *>(x + 4 * threadIdx.x + 1); // planted: misaligned
}
extern "C" __global__ void shared_past_end(int *out, unsigned n) {
    __shared__ int s[32];
    s[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] =
        s[threadIdx.x + n]; // planted: shared_past_end
}
extern "C" __global__ void straddling(const char *x, int *out) {
    // Four bytes of which the buffer holds the first two.
    if (threadIdx.x == 0) *out =
        *reinterpret_cast<const int *>(x); // planted: straddling
}
