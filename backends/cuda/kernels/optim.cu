// Optimiser steps for all parameters in one launch.   -DT= float or double
//
// A table lists for each piece of a parameter the addresses of parameter, gradient and state, and a
// length of at most PIECE elements; block b works on piece b. Training loops are bound by launches
// when parameters are many and small: this is one launch instead of several a parameter.
struct Piece { T* p; const T* g; T* m; T* v; long long n; };

// g += wd·p;  m = g if first else µ·m + (1 − dampening)·g;  p −= lr·(g + µ·m if nesterov else m)
extern "C" __global__ void sgd_step(const unsigned long long* table, T lr, T momentum, T dampening, T weight_decay,
                                    int nesterov, int first) {
    const Piece s = ((const Piece*)table)[blockIdx.x];
    for (long long i = threadIdx.x; i < s.n; i += blockDim.x) {
        T g = s.g[i] + weight_decay * s.p[i];
        if (s.m) {
            const T m = first ? g : momentum * s.m[i] + ((T)1 - dampening) * g;
            s.m[i] = m;
            g = nesterov ? g + momentum * m : m;
        }
        s.p[i] -= lr * g;
    }
}

// m = β₁m + (1−β₁)g;  v = β₂v + (1−β₂)g²;  p −= rate·m / (sqrt(v)/root + eps), where rate = lr/(1−β₁ᵗ)
// and root = sqrt(1−β₂ᵗ); weight decay goes into g, or (decoupled, AdamW) shrinks p first.
extern "C" __global__ void adam_step(const unsigned long long* table, T lr, T beta1, T beta2, T eps, T weight_decay,
                                     T rate, T root, int decoupled) {
    const Piece s = ((const Piece*)table)[blockIdx.x];
    for (long long i = threadIdx.x; i < s.n; i += blockDim.x) {
        T p = s.p[i], g = s.g[i];
        if (decoupled) p *= (T)1 - lr * weight_decay;
        else g += weight_decay * p;
        const T m = beta1 * s.m[i] + ((T)1 - beta1) * g, v = beta2 * s.v[i] + ((T)1 - beta2) * (g * g);
        s.m[i] = m;
        s.v[i] = v;
        s.p[i] = p - rate * m / (sqrt(v) / root + eps);
    }
}
