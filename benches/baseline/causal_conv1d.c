/* The causal convolution with bias and silu as the plain sums, in the order in which x lies. */
#include "baseline.h"

static inline float before_silu(const struct conv *c, size_t b, size_t d, size_t t) {
    const float *x = c->x + b * c->batch_stride + d * c->dim_stride;
    float sum = c->bias[d];
    for (size_t w = 0; w < c->width; w++) {
        if (t + w + 1 >= c->width) sum += c->weight[d * c->width + w] * x[(t + w + 1 - c->width) * c->time_stride];
    }
    return sum;
}

static inline float silu(float v) { return v * sigmoid(v); }

static inline void step(const struct conv *c, float *restrict out, size_t b, size_t d, size_t t) {
    size_t at = b * c->batch_stride + d * c->dim_stride + t * c->time_stride;
    out[at] = silu(before_silu(c, b, d, t));
}

void NAME(conv_forward)(const struct conv *c, float *restrict out) {
    for (size_t b = 0; b < c->batch; b++) {
        if (c->time_stride == 1) {
            for (size_t d = 0; d < c->dim; d++)
                for (size_t t = 0; t < c->seqlen; t++) step(c, out, b, d, t);
        } else {
            for (size_t t = 0; t < c->seqlen; t++)
                for (size_t d = 0; d < c->dim; d++) step(c, out, b, d, t);
        }
    }
}

static inline void step_back(const struct conv *c, const float *restrict dout, const struct conv_gradients *g, size_t b,
                             size_t d, size_t t) {
    size_t row = b * c->batch_stride + d * c->dim_stride;
    float pre = before_silu(c, b, d, t), s = sigmoid(pre);
    float by_pre = dout[row + t * c->time_stride] * s * (1.0f + pre * (1.0f - s));
    g->dbias[d] += by_pre;
    for (size_t w = 0; w < c->width; w++) {
        if (t + w + 1 < c->width) continue;
        size_t at = row + (t + w + 1 - c->width) * c->time_stride;
        g->dweight[d * c->width + w] += by_pre * c->x[at];
        g->dx[at] += by_pre * c->weight[d * c->width + w];
    }
}

void NAME(conv_backward)(const struct conv *c, const float *restrict dout, const struct conv_gradients *g) {
    for (size_t i = 0; i < c->batch * c->dim * c->seqlen; i++) g->dx[i] = 0.0f;
    for (size_t i = 0; i < c->dim * c->width; i++) g->dweight[i] = 0.0f;
    for (size_t d = 0; d < c->dim; d++) g->dbias[d] = 0.0f;
    for (size_t b = 0; b < c->batch; b++) {
        if (c->time_stride == 1) {
            for (size_t d = 0; d < c->dim; d++)
                for (size_t t = 0; t < c->seqlen; t++) step_back(c, dout, g, b, d, t);
        } else {
            for (size_t t = 0; t < c->seqlen; t++)
                for (size_t d = 0; d < c->dim; d++) step_back(c, dout, g, b, d, t);
        }
    }
}

/* One token after the other. states: (batch, dim, width - 1), the oldest input first. */
void NAME(conv_update)(const struct conv *c, float *restrict out, float *restrict states) {
    size_t before = c->width - 1;
    for (size_t b = 0; b < c->batch; b++) {
        for (size_t d = 0; d < c->dim; d++) {
            const float *weight = c->weight + d * c->width;
            float *restrict state = states + (b * c->dim + d) * before;
            for (size_t t = 0; t < c->seqlen; t++) {
                size_t at = b * c->batch_stride + d * c->dim_stride + t * c->time_stride;
                float x = c->x[at], sum = c->bias[d] + weight[before] * x;
                for (size_t w = 0; w < before; w++) sum += weight[w] * state[w];
                for (size_t w = 0; w + 1 < before; w++) state[w] = state[w + 1];
                if (before > 0) state[before - 1] = x;
                out[at] = silu(sum);
            }
        }
    }
}
