// direct.naive: one thread computes one output, by the definition.
//   y[n, k, p, q] = sum over c, r, s of x[n, c, STRIDE_H p - PAD_H + DILATION_H r, STRIDE_W q - ...] w[k, c, r, s]
// x [N, C, H, W], w [K, C / GROUPS, R, S], y [N, K, P, Q]. Neighbouring threads compute neighbouring q.

constexpr int CHANNELS = C / GROUPS;        // of one group
constexpr int FILTERS = K / GROUPS;         // of one group
constexpr Index OUTPUTS = Index(N) * K * P * Q;

extern "C" __global__ void __launch_bounds__(THREADS)
naive(const T* __restrict__ x, const T* __restrict__ w, T* __restrict__ y) {
  const Index output = Index(blockIdx.x) * THREADS + threadIdx.x;
  if (output >= OUTPUTS) return;
  const int q = output % Q;
  const int p = output / Q % P;
  const int k = output / (Index(Q) * P) % K;
  const int n = output / (Index(Q) * P * K);
  const int first = k / FILTERS * CHANNELS;  // the first channel of this filter's group

  T total = 0;
  for (int c = 0; c < CHANNELS; ++c)
    for (int r = 0; r < R; ++r) {
      const int i = p * STRIDE_H - PAD_H + r * DILATION_H;
      if (i < 0 || i >= H) continue;
      for (int s = 0; s < S; ++s) {
        const int j = q * STRIDE_W - PAD_W + s * DILATION_W;
        if (j < 0 || j >= W) continue;
        total += x[((Index(n) * C + first + c) * H + i) * W + j] * w[((Index(k) * CHANNELS + c) * R + r) * S + s];
      }
    }
  y[output] = total;
}
