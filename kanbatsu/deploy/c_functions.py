"""C99 of what weights take no part in: activations, norms and roots, by tanhf and expf alone."""

from __future__ import annotations

from collections.abc import Iterable

HELPERS: dict[str, str] = {
    "inverse_root": """\
/* 1 / sqrt(v) of a normal number v > 0: a first guess from its bits, then Newton's steps. */
static float inverse_root(float v) {
  union { float number; uint32_t bits; } guess;
  guess.number = v;
  guess.bits = UINT32_C(0x5f3759df) - (guess.bits >> 1);
  for (int step = 0; step < 4; ++step) {
    guess.number *= 1.5f - 0.5f * v * guess.number * guess.number;
  }
  return guess.number;
}""",
    "centre": """\
/* Bring numbers to mean 0 and variance 1. */
static void centre(float *x, int32_t size, float epsilon) {
  float mean = 0.0f, variance = 0.0f;
  for (int32_t i = 0; i < size; ++i) mean += x[i];
  mean /= (float)size;
  for (int32_t i = 0; i < size; ++i) {
    x[i] -= mean;
    variance += x[i] * x[i];
  }
  const float scale = inverse_root(variance / (float)size + epsilon);
  for (int32_t i = 0; i < size; ++i) x[i] *= scale;
}""",
    "relu": "static float relu(float v) { return v < 0.0f ? 0.0f : v; }",
    "leaky_relu": """\
static float leaky_relu(float v, float slope) { return v < 0.0f ? slope * v : v; }""",
    "elu": """\
/* exp(v) - 1 = 2 t / (1 - t) with t = tanh(v / 2), which is exact near 0 too. */
static float elu(float v, float depth) {
  const float t = tanhf(0.5f * v);
  return v < 0.0f ? depth * 2.0f * t / (1.0f - t) : v;
}""",
    "gelu": """\
/* The error function by Abramowitz and Stegun 1964, 7.1.26: off by 1.5e-7 at most. */
static float gelu(float v) {
  const float u = (v < 0.0f ? -v : v) * 0.707106781f;
  const float t = 1.0f / (1.0f + 0.3275911f * u);
  const float tail = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f
      + t * (-1.453152027f + t * 1.061405429f)))) * expf(-u * u);
  return 0.5f * v * (v < 0.0f ? tail : 2.0f - tail);
}""",
    "gelu_tanh": """\
static float gelu_tanh(float v) {
  return 0.5f * v * (1.0f + tanhf(0.797884561f * (v + 0.044715f * v * v * v)));
}""",
    "sigmoid": "static float sigmoid(float v) { return 0.5f * (1.0f + tanhf(0.5f * v)); }",
    "silu": "static float silu(float v) { return v * sigmoid(v); }",
    "softplus": """\
/* log(1 + u) = 2 artanh(z) with z = u / (2 + u), at most 1/3: eight terms of its series. */
static float softplus(float v) {
  const float u = expf(v < 0.0f ? v : -v), z = u / (2.0f + u), z2 = z * z;
  float sum = 0.0f;
  for (int term = 15; term > 0; term -= 2) sum = sum * z2 + 1.0f / (float)term;
  return (v > 0.0f ? v : 0.0f) + 2.0f * z * sum;
}""",
}
"""Functions that a file may need, in an order in which they may stand in it."""
NEEDS = {"centre": "inverse_root", "silu": "sigmoid"}
"""Functions that call another."""
WITH_PARAMETER = ("leaky_relu", "elu")
OF_C = {"tanh": "tanhf"}
"""Names of activations that C's library has."""


def helpers(used: Iterable[str]) -> list[str]:
    """Return the functions of these names and those that they need, and no others.

    Example:
        >>> [text.split("(")[0] for text in helpers(["silu"])]
        ['static float sigmoid', 'static float silu']
    """
    names = {*used}
    names |= {NEEDS[name] for name in names if name in NEEDS}
    return [text for name, text in HELPERS.items() if name in names]
