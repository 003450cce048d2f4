// A product of matrices whose extents are multiples of 32: tiles of 32 x 32 in shared memory, four columns a thread.
extern "C" __global__ void matmul(const float *a, const float *b, float *c, unsigned n, unsigned k) {
    __shared__ float4 at[32][8], bt[32][8];
    unsigned x = threadIdx.x, y = threadIdx.y, row = blockIdx.y * 32 + y, column = blockIdx.x * 32 + 4 * x;
    float4 sum = make_float4(0, 0, 0, 0);
    for (unsigned k0 = 0; k0 < k; k0 += 32) {
        at[y][x] = *reinterpret_cast<const float4 *>(&a[row * k + k0 + 4 * x]);
        bt[y][x] = *reinterpret_cast<const float4 *>(&b[(k0 + y) * n + column]);
        __syncthreads();
        for (unsigned i = 0; i < 32; ++i) {
            float u = reinterpret_cast<const float *>(at[y])[i];
            float4 v = bt[i][x];
            sum.x += u * v.x, sum.y += u * v.y, sum.z += u * v.z, sum.w += u * v.w;
        }
        __syncthreads();
    }
    *reinterpret_cast<float4 *>(&c[row * n + column]) = sum;
}
