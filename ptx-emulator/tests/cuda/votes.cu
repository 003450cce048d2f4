// Votes, matches and warp-wide integer reductions, over a whole warp and over the lanes of a mask.
extern "C" __global__ void votes(const unsigned *x, unsigned *out) {
    unsigned lane = threadIdx.x, value = x[blockIdx.x * 32 + lane], *o = out + (blockIdx.x * 32 + lane) * 8;
    o[0] = __match_any_sync(~0u, value);
    o[1] = __match_any_sync(~0u, (unsigned long long)value << 32);
    int same;
    o[2] = __match_all_sync(~0u, value, &same);
    o[2] = o[2] * 2 + same;
    o[3] = __all_sync(~0u, value < 6) * 2 + __any_sync(~0u, value == 7);
    o[4] = o[5] = o[6] = o[7] = 0;
    if (lane < 12) {
        o[4] = __ballot_sync(0xfff, value & 1);
        o[5] = __activemask();
    } else {
        o[4] = __ballot_sync(0xfffff000, value & 2);
        o[6] = __match_any_sync(0xfffff000, value & 3);
    }
}

extern "C" __global__ void redux(const unsigned *x, unsigned *out) {
    unsigned lane = threadIdx.x, value = x[lane], *o = out + lane * 8, mask = lane < 10 ? 0x3ff : 0xfffffc00;
    o[0] = __reduce_add_sync(~0u, value);
    o[1] = __reduce_min_sync(~0u, value);
    o[2] = __reduce_max_sync(~0u, value);
    o[3] = __reduce_min_sync(~0u, (int)value);
    o[4] = __reduce_max_sync(~0u, (int)value);
    o[5] = __reduce_xor_sync(mask, value);
    o[6] = __reduce_and_sync(mask, value);
    o[7] = __reduce_or_sync(mask, value);
}
