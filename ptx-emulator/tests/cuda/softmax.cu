// Softmax of rows, a warp a row.
extern "C" __global__ void softmax(const float *x, float *out, unsigned rows, unsigned columns) {
    unsigned row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    x += row * columns, out += row * columns;
    float top = -INFINITY, sum = 0;
    for (unsigned i = lane; i < columns; i += 32) top = fmaxf(top, x[i]);
    for (int step = 16; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(~0u, top, step));
    for (unsigned i = lane; i < columns; i += 32) sum += expf(x[i] - top);
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    for (unsigned i = lane; i < columns; i += 32) out[i] = expf(x[i] - top) / sum;
}
