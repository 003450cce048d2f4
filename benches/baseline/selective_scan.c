/* The selective scan as the plain recurrence, one channel after the other. */
#include "baseline.h"

void NAME(scan_forward)(const struct scan *s, float *restrict out, float *restrict state) {
    for (size_t b = 0; b < s->batch; b++) {
        for (size_t d = 0; d < s->dim; d++) {
            const float *A = s->A + d * s->dstate;
            for (size_t n = 0; n < s->dstate; n++) state[n] = 0.0f;
            for (size_t t = 0; t < s->seqlen; t++) {
                size_t at = b * s->batch_stride + d * s->dim_stride + t * s->time_stride;
                size_t row = b * s->rows_batch_stride + t * s->rows_time_stride;
                float x = s->x[at], z = s->z[at];
                float delta = softplus(s->dt[at] + s->dt_bias[d]), y = 0.0f;
                for (size_t n = 0; n < s->dstate; n++) {
                    size_t place = row + n * s->rows_state_stride;
                    state[n] = expf(delta * A[n]) * state[n] + delta * s->B[place] * x;
                    y += state[n] * s->C[place];
                }
                out[at] = (y + s->D[d] * x) * z * sigmoid(z);
            }
        }
    }
}

/* The states of one channel: row t + 1 is the state after step t. */
static void channel_states(const struct scan *s, size_t b, size_t d, float *restrict states) {
    const float *A = s->A + d * s->dstate;
    for (size_t n = 0; n < s->dstate; n++) states[n] = 0.0f;
    for (size_t t = 0; t < s->seqlen; t++) {
        size_t at = b * s->batch_stride + d * s->dim_stride + t * s->time_stride;
        size_t row = b * s->rows_batch_stride + t * s->rows_time_stride;
        float x = s->x[at], delta = softplus(s->dt[at] + s->dt_bias[d]);
        for (size_t n = 0; n < s->dstate; n++) {
            float B = s->B[row + n * s->rows_state_stride];
            states[(t + 1) * s->dstate + n] = expf(delta * A[n]) * states[t * s->dstate + n] + delta * B * x;
        }
    }
}

/* One channel from its last step to its first. later: the gradient by the state after the step. */
static void channel_backward(const struct scan *s, const float *dout, const struct scan_gradients *g, size_t b, size_t d,
                             const float *restrict states, float *restrict later) {
    const float *A = s->A + d * s->dstate;
    float *dA = g->dA + d * s->dstate;
    for (size_t n = 0; n < s->dstate; n++) later[n] = 0.0f;
    for (size_t t = s->seqlen; t-- > 0;) {
        size_t at = b * s->batch_stride + d * s->dim_stride + t * s->time_stride;
        size_t row = b * s->rows_batch_stride + t * s->rows_time_stride;
        float x = s->x[at], z = s->z[at], raw = s->dt[at] + s->dt_bias[d];
        float delta = softplus(raw), slope = raw > 20.0f ? 1.0f : sigmoid(raw), gate = sigmoid(z);
        float by_out = dout[at] * z * gate;
        float y = s->D[d] * x, by_input = 0.0f, by_decay = 0.0f;
        for (size_t n = 0; n < s->dstate; n++) {
            size_t place = row + n * s->rows_state_stride;
            float before = states[t * s->dstate + n], after = states[(t + 1) * s->dstate + n];
            float decay = expf(delta * A[n]);
            y += after * s->C[place];
            later[n] += by_out * s->C[place];
            g->dC[place] += by_out * after;
            g->dB[place] += later[n] * delta * x;
            by_input += later[n] * s->B[place];
            later[n] *= decay;
            by_decay += later[n] * before * A[n];
            dA[n] += later[n] * before * delta;
        }
        float ddt = (x * by_input + by_decay) * slope;
        g->dx[at] = delta * by_input + s->D[d] * by_out;
        g->ddt[at] = ddt;
        g->dz[at] = dout[at] * y * gate * (1.0f + z * (1.0f - gate));
        g->dD[d] += by_out * x;
        g->ddt_bias[d] += ddt;
    }
}

/* scratch: (seqlen + 2) dstate. The gradients of B and C lie as B and C do, without gaps. */
void NAME(scan_backward)(const struct scan *s, const float *dout, const struct scan_gradients *g, float *scratch) {
    size_t rows = s->batch * s->dstate * s->seqlen;
    for (size_t i = 0; i < rows; i++) g->dB[i] = g->dC[i] = 0.0f;
    for (size_t i = 0; i < s->dim * s->dstate; i++) g->dA[i] = 0.0f;
    for (size_t d = 0; d < s->dim; d++) g->dD[d] = g->ddt_bias[d] = 0.0f;
    for (size_t b = 0; b < s->batch; b++) {
        for (size_t d = 0; d < s->dim; d++) {
            channel_states(s, b, d, scratch);
            channel_backward(s, dout, g, b, d, scratch, scratch + (s->seqlen + 1) * s->dstate);
        }
    }
}
