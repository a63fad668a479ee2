// The elementwise parts of training mini, fused; the matrix products stay in PyTorch. Rows are contiguous, bf16 is held in uint16_t.
// Built by fast.py: cc -O3 -march=native -ffast-math -shared -fPIC.
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { H = 256, D = 64, HALF = 32 };
typedef uint16_t bf16;

static inline float load(bf16 v) {
    uint32_t bits = (uint32_t)v << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static inline bf16 store(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return (bf16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// x += y where y is given; out = x / rms(x) * w; inv keeps 1 / rms.
void rms_forward(float *restrict x, const bf16 *restrict y, const float *restrict w, bf16 *restrict out, float *restrict inv, long rows) {
    for (long r = 0; r < rows; r++, x += H, out += H) {
        float sum = 0;
        if (y) for (int i = 0; i < H; i++) x[i] += load(y[r * H + i]);
        for (int i = 0; i < H; i++) sum += x[i] * x[i];
        float scale = inv[r] = 1.0f / sqrtf(sum / H + 1e-6f);
        for (int i = 0; i < H; i++) out[i] = store(x[i] * scale * w[i]);
    }
}

// dx += the gradient through the norm; dw accumulates.
void rms_backward(const bf16 *restrict dout, const float *restrict x, const float *restrict w, const float *restrict inv, float *restrict dx,
                  float *restrict dw, long rows) {
    for (long r = 0; r < rows; r++, x += H, dout += H, dx += H) {
        float scale = inv[r], dot = 0;
        for (int i = 0; i < H; i++) dot += load(dout[i]) * w[i] * x[i];
        dot *= scale * scale / H;
        for (int i = 0; i < H; i++) {
            float d = load(dout[i]);
            dw[i] += d * x[i] * scale;
            dx[i] += scale * (d * w[i] - x[i] * dot);
        }
    }
}

// Where head `h` of token `l` in sequence `b` lies: q is [b, kv, group, l, D], k and v are [b, kv, l, D].
static inline long place(long b, long l, int h, long length, int heads) { return ((b * heads + h) * length + l) * D; }

void heads_forward(const bf16 *restrict qkv, const float *restrict cosine, const float *restrict sine, const float *restrict wq,
                   const float *restrict wk, bf16 *restrict q, bf16 *restrict k, bf16 *restrict v, long batch, long length, int nq, int nk) {
    int all = nq + 2 * nk;
    for (long t = 0; t < batch * length; t++) {
        long b = t / length, l = t % length;
        const float *c = cosine + l * HALF, *s = sine + l * HALF;
        for (int h = 0; h < nq + nk; h++) {
            const bf16 *in = qkv + (t * all + h) * D;
            const float *w = h < nq ? wq : wk;
            bf16 *out = h < nq ? q + place(b, l, h, length, nq) : k + place(b, l, h - nq, length, nk);
            float sum = 0;
            for (int i = 0; i < D; i++) sum += load(in[i]) * load(in[i]);
            float inv = 1.0f / sqrtf(sum / D + 1e-6f);
            for (int i = 0; i < HALF; i++) {
                float a = load(in[i]) * inv * w[i], z = load(in[i + HALF]) * inv * w[i + HALF];
                out[i] = store(a * c[i] - z * s[i]);
                out[i + HALF] = store(z * c[i] + a * s[i]);
            }
        }
        for (int h = 0; h < nk; h++) memcpy(v + place(b, l, h, length, nk), qkv + (t * all + nq + nk + h) * D, D * sizeof(bf16));
    }
}

void heads_backward(const bf16 *restrict qkv, const float *restrict cosine, const float *restrict sine, const float *restrict wq,
                    const float *restrict wk, const bf16 *restrict dq, const bf16 *restrict dk, const bf16 *restrict dv, bf16 *restrict dqkv,
                    float *restrict dwq, float *restrict dwk, long batch, long length, int nq, int nk) {
    int all = nq + 2 * nk;
    for (long t = 0; t < batch * length; t++) {
        long b = t / length, l = t % length;
        const float *c = cosine + l * HALF, *s = sine + l * HALF;
        for (int h = 0; h < nq + nk; h++) {
            const bf16 *in = qkv + (t * all + h) * D;
            const float *w = h < nq ? wq : wk;
            float *dw = h < nq ? dwq : dwk;
            const bf16 *d = h < nq ? dq + place(b, l, h, length, nq) : dk + place(b, l, h - nq, length, nk);
            float g[D], sum = 0, dot = 0;
            for (int i = 0; i < D; i++) sum += load(in[i]) * load(in[i]);
            float inv = 1.0f / sqrtf(sum / D + 1e-6f);
            for (int i = 0; i < HALF; i++) {
                float a = load(d[i]), z = load(d[i + HALF]);
                g[i] = a * c[i] + z * s[i];
                g[i + HALF] = z * c[i] - a * s[i];
            }
            for (int i = 0; i < D; i++) {
                dw[i] += g[i] * load(in[i]) * inv;
                g[i] *= w[i];
                dot += g[i] * load(in[i]);
            }
            dot *= inv * inv / D;
            for (int i = 0; i < D; i++) dqkv[(t * all + h) * D + i] = store(inv * (g[i] - load(in[i]) * dot));
        }
        for (int h = 0; h < nk; h++) memcpy(dqkv + (t * all + nq + nk + h) * D, dv + place(b, l, h, length, nk), D * sizeof(bf16));
    }
}

// Causal softmax in place; `rows` is a multiple of `length`, row r sees keys 0..=r % length.
void softmax_forward(bf16 *restrict scores, float scale, long rows, long length) {
    float e[4096];
    for (long r = 0; r < rows; r++, scores += length) {
        long seen = r % length + 1;
        float most = -1e30f, sum = 0;
        for (long i = 0; i < seen; i++) { float v = load(scores[i]) * scale; most = v > most ? v : most; }
        for (long i = 0; i < seen; i++) { e[i] = expf(load(scores[i]) * scale - most); sum += e[i]; }
        sum = 1.0f / sum;
        for (long i = 0; i < seen; i++) scores[i] = store(e[i] * sum);
        memset(scores + seen, 0, (length - seen) * sizeof(bf16));
    }
}

void softmax_backward(const bf16 *restrict p, bf16 *restrict d, float scale, long rows, long length) {
    for (long r = 0; r < rows; r++, p += length, d += length) {
        long seen = r % length + 1;
        float dot = 0;
        for (long i = 0; i < seen; i++) dot += load(p[i]) * load(d[i]);
        for (long i = 0; i < seen; i++) d[i] = store(scale * load(p[i]) * (load(d[i]) - dot));
        memset(d + seen, 0, (length - seen) * sizeof(bf16));
    }
}

void swiglu_forward(const bf16 *restrict gu, bf16 *restrict out, long rows, long width) {
    for (long r = 0; r < rows; r++, gu += 2 * width, out += width)
        for (long i = 0; i < width; i++) {
            float g = load(gu[i]);
            out[i] = store(g / (1.0f + expf(-g)) * load(gu[i + width]));
        }
}

void swiglu_backward(const bf16 *restrict gu, const bf16 *restrict d, bf16 *restrict dgu, long rows, long width) {
    for (long r = 0; r < rows; r++, gu += 2 * width, d += width, dgu += 2 * width)
        for (long i = 0; i < width; i++) {
            float g = load(gu[i]), u = load(gu[i + width]), s = 1.0f / (1.0f + expf(-g)), a = load(d[i]);
            dgu[i] = store(a * u * s * (1.0f + g * (1.0f - s)));
            dgu[i + width] = store(a * g * s);
        }
}

// Turns logits into their gradient for summed cross entropy and returns that sum.
float cross_entropy(bf16 *restrict logits, const int64_t *restrict target, long rows, long vocab) {
    float e[4096], loss = 0;
    for (long r = 0; r < rows; r++, logits += vocab) {
        float most = -1e30f, sum = 0, wanted = load(logits[target[r]]);
        for (long i = 0; i < vocab; i++) { float v = load(logits[i]); most = v > most ? v : most; }
        for (long i = 0; i < vocab; i++) { e[i] = expf(load(logits[i]) - most); sum += e[i]; }
        loss += logf(sum) + most - wanted;
        sum = 1.0f / sum;
        for (long i = 0; i < vocab; i++) logits[i] = store(e[i] * sum - (i == target[r]));
    }
    return loss;
}
