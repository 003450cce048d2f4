/* The state update as the plain recurrence, in place: one token, or one after the other. */
#include "baseline.h"

/* state: (batch, dim, dstate). */
void NAME(state_update)(const struct scan *s, float *restrict out, float *restrict states) {
    for (size_t b = 0; b < s->batch; b++) {
        for (size_t d = 0; d < s->dim; d++) {
            const float *A = s->A + d * s->dstate;
            float *restrict state = states + (b * s->dim + d) * s->dstate;
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
