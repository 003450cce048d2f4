/* A selective scan through the C API, beside the recurrence written out: what a C program would do. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ssm_kernels.h"

enum { BATCH = 2, DIM = 3, SEQLEN = 50, DSTATE = 4 };

static SsmTensor tensor(float *data, int32_t ndim, int64_t *shape, int64_t *strides) {
  SsmTensor t = {data, {1, 0}, ndim, {2, 32, 1}, shape, strides, 0};
  return t;
}

static float next(void) {
  static unsigned seed = 1;
  seed = seed * 1664525u + 1013904223u;
  return (float)(seed >> 8) / 16777216.0f - 0.5f;
}

#define CHECK(condition)                                                                  \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, ssm_error_message());    \
      exit(1);                                                                            \
    }                                                                                     \
  } while (0)

int main(void) {
  float x[BATCH][SEQLEN][DIM], dt[BATCH][SEQLEN][DIM], out[BATCH][SEQLEN][DIM], A[DIM][DSTATE];
  float B[BATCH][DSTATE][SEQLEN], C[BATCH][DSTATE][SEQLEN], h[BATCH][DIM][DSTATE];
  size_t i;
  for (i = 0; i < sizeof x / 4; i++) ((float *)x)[i] = next(), ((float *)dt)[i] = next();
  for (i = 0; i < sizeof A / 4; i++) ((float *)A)[i] = next() - 1.0f;
  for (i = 0; i < sizeof B / 4; i++) ((float *)B)[i] = next(), ((float *)C)[i] = next();

  /* Channel-last: (batch, dim, seqlen) by strides. */
  int64_t sequence[] = {BATCH, DIM, SEQLEN}, last[] = {SEQLEN * DIM, 1, DIM}, matrix[] = {DIM, DSTATE};
  int64_t projection[] = {BATCH, 1, DSTATE, SEQLEN}, state[] = {BATCH, DIM, DSTATE};
  SsmTensor tx = tensor((float *)x, 3, sequence, last), tdt = tensor((float *)dt, 3, sequence, last);
  SsmTensor tA = tensor((float *)A, 2, matrix, NULL), tB = tensor((float *)B, 4, projection, NULL);
  SsmTensor tC = tensor((float *)C, 4, projection, NULL), tout = tensor((float *)out, 3, sequence, last);
  SsmTensor th = tensor((float *)h, 3, state, NULL);

  SsmSelectiveScan scan;
  SsmSelectiveScanOutputs outputs;
  memset(&scan, 0, sizeof scan);
  memset(&outputs, 0, sizeof outputs);
  scan.size = sizeof scan, scan.x = &tx, scan.dt = &tdt, scan.A = &tA, scan.B = &tB, scan.C = &tC;
  scan.dt_softplus = true;
  outputs.size = sizeof outputs, outputs.out = &tout, outputs.final_state = &th;

  CHECK(ssm_selective_scan_forward(NULL, &scan, &outputs) == SSM_OK);
  for (int b = 0; b < BATCH; b++)
    for (int d = 0; d < DIM; d++) {
      double s[DSTATE] = {0};
      for (int t = 0; t < SEQLEN; t++) {
        double delta = log1p(exp(dt[b][t][d])), y = 0;
        for (int n = 0; n < DSTATE; n++) {
          s[n] = exp(delta * A[d][n]) * s[n] + delta * B[b][n][t] * x[b][t][d];
          y += C[b][n][t] * s[n];
        }
        CHECK(fabs(y - out[b][t][d]) < 1e-6);
      }
      for (int n = 0; n < DSTATE; n++) CHECK(fabs(s[n] - h[b][d][n]) < 1e-6);
    }

  /* The same in the caller's workspace: the same bits. */
  float again[BATCH][SEQLEN][DIM];
  size_t bytes = 0, every = 0;
  SsmOn on;
  memset(&on, 0, sizeof on);
  on.size = sizeof on;
  CHECK(ssm_selective_scan_plan(&on, &scan, &bytes, NULL, &every) == SSM_OK && bytes > 0 && every > 0);
  char *memory = malloc(bytes + 256);
  on.workspace = memory + (256 - (size_t)memory % 256), on.workspace_bytes = bytes, on.single_thread = true;
  tout.data = again;
  CHECK(ssm_selective_scan_forward(&on, &scan, &outputs) == SSM_OK);
  CHECK(memcmp(out, again, sizeof out) == 0);
  on.workspace_bytes = bytes - 256;
  CHECK(ssm_selective_scan_forward(&on, &scan, &outputs) == SSM_OUT_OF_MEMORY);
  free(memory);

  /* A refusal says why, and writes nothing. */
  memset(again, 0, sizeof again);
  sequence[1] = DIM - 1;
  CHECK(ssm_selective_scan_forward(NULL, &scan, &outputs) == SSM_INVALID);
  printf("%s\n", ssm_error_message());
  for (i = 0; i < sizeof again / 4; i++) CHECK(((float *)again)[i] == 0.0f);
  printf("ok, version %s\n", ssm_version());
  return 0;
}
