// A selective scan: one thread a channel, 16 states in registers, B and C staged in shared memory.
constexpr int kStates = 16, kTile = 32, kThreads = 128;

extern "C" __global__ void __launch_bounds__(kThreads)
selective_scan(const float *x, const float *dt, const float *A, const float *B, const float *C, float *out, int dim,
               int seqlen) {
    __shared__ float b_tile[kTile][kStates], c_tile[kTile][kStates];
    const int d = blockIdx.x * kThreads + threadIdx.x, batch = blockIdx.y;
    float a[kStates], state[kStates];
    for (int n = 0; n < kStates; ++n) {
        a[n] = A[d * kStates + n] * 1.44269504f;
        state[n] = 0.f;
    }
    const size_t row = ((size_t)batch * dim + d) * seqlen, shared_row = (size_t)batch * seqlen * kStates;
    for (int start = 0; start < seqlen; start += kTile) {
        __syncthreads();
        for (int i = threadIdx.x; i < kTile * kStates; i += kThreads) {
            (&b_tile[0][0])[i] = B[shared_row + (size_t)start * kStates + i];
            (&c_tile[0][0])[i] = C[shared_row + (size_t)start * kStates + i];
        }
        __syncthreads();
        for (int t = 0; t < kTile; ++t) {
            const float delta = dt[row + start + t], input = delta * x[row + start + t];
            float y = 0.f;
#pragma unroll
            for (int n = 0; n < kStates; ++n) {
                float decay;
                asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(decay) : "f"(delta * a[n]));
                state[n] = decay * state[n] + input * b_tile[t][n];
                y += state[n] * c_tile[t][n];
            }
            out[row + start + t] = y;
        }
    }
}
