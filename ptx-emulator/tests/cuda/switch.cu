// A dense switch, taken differently by each lane.
extern "C" __global__ void switch_cases(const unsigned *op, const float *x, float *out, unsigned n) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = x[i];
    switch (op[i]) {
    case 0: v = v + 1; break;
    case 1: v = v * v - 3; break;
    case 2: v = sqrtf(fabsf(v)); break;
    case 3: v = 1 / (v * v + 1); break;
    case 4: for (int j = 0; j < 5; ++j) v = v * 0.5f + j; break;
    case 5: out[n + i] = v; // falls through
    case 6: v = -v; break;
    case 7: v = floorf(v); break;
    case 8: return;
    case 9: v = fmaxf(v, 0.5f); break;
    case 10: v = rintf(v); break;
    default: v = 99;
    }
    out[i] = v;
}
