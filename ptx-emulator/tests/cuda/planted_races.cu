// Planted: races. The line on which a race is found is marked.
extern "C" __global__ void missing_barrier(const int *x, int *out) {
    __shared__ int s[128];
    s[threadIdx.x] = x[threadIdx.x];
    out[threadIdx.x] =
        s[127 - threadIdx.x]; // planted: missing_barrier
}
extern "C" __global__ void tree_without_barriers(const int *x, int *out) {
    __shared__ int s[128];
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    for (unsigned half = 64; half > 0; half /= 2)
        if (threadIdx.x < half) s[threadIdx.x] += s[threadIdx.x + half];
    if (threadIdx.x == 0) *out = s[0];
}
extern "C" __global__ void warps_write_one_word(int *out) {
    __shared__ int s[32];
    s[threadIdx.x % 32] = threadIdx.x; // planted: warps_write_one_word
    __syncthreads();
    out[threadIdx.x] = s[threadIdx.x % 32];
}
extern "C" __global__ void within_a_warp(const int *x, int *out) {
    __shared__ int s[32];
    s[threadIdx.x] = x[threadIdx.x];
    out[threadIdx.x] =
        s[threadIdx.x ^ 1]; // planted: within_a_warp
}
extern "C" __global__ void lanes_write_one_word(int *out) {
    __shared__ int s;
    s = threadIdx.x; // planted: lanes_write_one_word
    __syncthreads();
    out[threadIdx.x] = s;
}
extern "C" __global__ void reused_without_barrier(const int *x, int *out, int rounds) {
    __shared__ int s[64];
    for (int i = 0; i < rounds; ++i) {
        s[threadIdx.x] = x[64 * i + threadIdx.x];
        __syncthreads();
        // The next round's write does not wait for this read.
        out[64 * i + threadIdx.x] = s[63 - threadIdx.x];
    }
}
extern "C" __global__ void bytes_of_one_word(const unsigned char *x, unsigned char *out) {
    // Clean: neighbours in one word, but no byte is shared.
    __shared__ unsigned char s[64];
    s[threadIdx.x] = x[threadIdx.x];
    __syncwarp();
    out[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void blocks_write_one_word(int *out) {
    if (threadIdx.x == 0)
        *out = blockIdx.x; // planted: blocks_write_one_word
}
extern "C" __global__ void blocks_read_what_others_write(int *x) {
    if (threadIdx.x == 0) {
        int other = x[(blockIdx.x + 1) % gridDim.x];
        x[blockIdx.x] = other + 1;
    }
}
extern "C" __global__ void atomic_and_plain(int *x, int *out) {
    if (blockIdx.x == 0) atomicAdd(x, 1);
    else out[threadIdx.x] = *x;
}
extern "C" __global__ void threads_write_one_global(int *out) {
    *out = threadIdx.x; // planted: threads_write_one_global
}
extern "C" __global__ void through_a_barrier(int *x, int *out) {
    // Clean: global memory that the block's own barrier orders.
    x[blockIdx.x * blockDim.x + threadIdx.x] = threadIdx.x;
    __syncthreads();
    out[blockIdx.x * blockDim.x + threadIdx.x] = x[blockIdx.x * blockDim.x + (threadIdx.x ^ 33)];
}
