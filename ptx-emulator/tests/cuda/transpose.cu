// A tiled transpose, the tile padded by one column.
extern "C" __global__ void transpose(const float *in, float *out, unsigned rows, unsigned columns) {
    __shared__ float tile[32][33];
    unsigned column = blockIdx.x * 32 + threadIdx.x;
    for (unsigned i = threadIdx.y; i < 32; i += blockDim.y) {
        unsigned row = blockIdx.y * 32 + i;
        if (row < rows && column < columns) tile[i][threadIdx.x] = in[row * columns + column];
    }
    __syncthreads();
    unsigned row = blockIdx.y * 32 + threadIdx.x;
    for (unsigned i = threadIdx.y; i < 32; i += blockDim.y) {
        column = blockIdx.x * 32 + i;
        if (row < rows && column < columns) out[column * rows + row] = tile[threadIdx.x][i];
    }
}
