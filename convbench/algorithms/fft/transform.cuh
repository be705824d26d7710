// Complex FFTs of up to 32 points in a thread's registers, and two real sequences as one complex one.
#pragma once

// cos(2 pi n / 32) of the first quarter.
__device__ __forceinline__ constexpr float quarter(int n) {
  return n == 0   ? 1.0f
         : n == 1 ? 0.98078528040323044913f
         : n == 2 ? 0.92387953251128675613f
         : n == 3 ? 0.83146961230254523708f
         : n == 4 ? 0.70710678118654752440f
         : n == 5 ? 0.55557023301960222474f
         : n == 6 ? 0.38268343236508977173f
         : n == 7 ? 0.19509032201612826785f
                  : 0.0f;
}

// (re, im) exp(-+ 2 pi i n / 32), n below 16; minus for the forward transform. n is known when this is compiled.
template <bool FORWARD>
__device__ __forceinline__ float2 turned(float2 v, int n) {
  if (n == 0) return v;
  if (n == 8) return FORWARD ? make_float2(v.y, -v.x) : make_float2(-v.y, v.x);
  const float re = n < 8 ? quarter(n) : -quarter(16 - n), sine = n < 8 ? quarter(8 - n) : quarter(n - 8);
  const float im = FORWARD ? -sine : sine;
  return make_float2(v.x * re - v.y * im, v.x * im + v.y * re);
}

// The stages of radix 2 from butterflies of width SPAN down, decimation in frequency.
template <int POINTS, int SPAN, bool FORWARD>
__device__ __forceinline__ void stages(float2 (&v)[POINTS]) {
#pragma unroll
  for (int start = 0; start < POINTS; start += 2 * SPAN)
#pragma unroll
    for (int k = 0; k < SPAN; ++k) {
      const float2 a = v[start + k], b = v[start + k + SPAN];
      v[start + k] = make_float2(a.x + b.x, a.y + b.y);
      v[start + k + SPAN] = turned<FORWARD>(make_float2(a.x - b.x, a.y - b.y), k * (16 / SPAN));
    }
  if constexpr (SPAN > 1) stages<POINTS, SPAN / 2, FORWARD>(v);
}

// v = sum over j of v[j] exp(-+ 2 pi i j k / POINTS), in the order of k: the swaps only rename registers.
template <bool FORWARD, int POINTS>
__device__ __forceinline__ void transform(float2 (&v)[POINTS]) {
  stages<POINTS, POINTS / 2, FORWARD>(v);
#pragma unroll
  for (int k = 0; k < POINTS; ++k) {
    int reversed = 0;
#pragma unroll
    for (int bit = 1; bit < POINTS; bit *= 2) reversed = 2 * reversed + (k & bit ? 1 : 0);
    if (k < reversed) {
      const float2 kept = v[k];
      v[k] = v[reversed];
      v[reversed] = kept;
    }
  }
}

// Of z = a + i b, the transform of two real sequences: 2 A[k] and 2 B[k] from z[k] and z[-k]; and back without the 2.
struct Two { float2 a, b; };
__device__ __forceinline__ Two split(float2 z, float2 mirror) {
  return {make_float2(z.x + mirror.x, z.y - mirror.y), make_float2(z.y + mirror.y, mirror.x - z.x)};
}
__device__ __forceinline__ Two join(Two s) {  // {z[k], z[-k]}
  return {make_float2(s.a.x - s.b.y, s.a.y + s.b.x), make_float2(s.a.x + s.b.y, s.b.x - s.a.y)};
}

__device__ __forceinline__ float2& pair_at(float* p) { return *reinterpret_cast<float2*>(p); }
