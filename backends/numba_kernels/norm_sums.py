"""The sums of batch normalisation over the values of each channel: statistics and gradients.

Blocks of memory as in ``norm``: "rows" with the channels innermost, "planes" of one channel each.
"""

from __future__ import annotations

import math

import numpy as np

from .access import get32, put32, put64, read64
from .lanes import vget, vput
from .runtime import device, kernel
from .simd import (
    BYTES,
    WIDTH,
    fma,
    lane_sum,
    load,
    load_part,
    select_gt,
    splat,
    store,
    store_f32,
)

f4 = np.float32
RELU, RESIDUAL, STREAM = 1, 2, 4  # STREAM: results are written past the caches


# ---------------------------------------------------------------------------------------------
# Statistics: partial[k] = (means (C,), sums of squares about them (C,)) of block or image k; means
# are counted from the channel's first element, so that a mean far from 0 loses no digits between
# the blocks
# ---------------------------------------------------------------------------------------------
@device(inline=True)
def put_four(p, a, b, c, d):
    """Four vectors, one after the other."""
    store(p, a)
    store(p + BYTES, b)
    store(p + 2 * BYTES, c)
    store(p + 3 * BYTES, d)


@device
def _stats_of_four(p, pitch, count, first, means):
    """``stats_rows`` for four vectors of channels: whole cache lines in the order of memory, where
    one vector at a time would walk over the block four times. 1.5 times as fast for 64 channels."""
    zero, share, start = splat(f4(0)), splat(f4(1) / f4(count)), p
    a0, a1, a2, a3 = zero, zero, zero, zero
    for _ in range(count):
        a0, a1 = a0 + load(p), a1 + load(p + BYTES)
        a2, a3 = a2 + load(p + 2 * BYTES), a3 + load(p + 3 * BYTES)
        p += pitch
    m0, m1, m2, m3 = a0 * share, a1 * share, a2 * share, a3 * share
    q0, q1, q2, q3 = zero, zero, zero, zero
    r0, r1, r2, r3 = zero, zero, zero, zero
    p = start
    for _ in range(count):
        u0, u1 = load(p) - m0, load(p + BYTES) - m1
        u2, u3 = load(p + 2 * BYTES) - m2, load(p + 3 * BYTES) - m3
        q0, q1, q2, q3 = fma(u0, u0, q0), fma(u1, u1, q1), fma(u2, u2, q2), fma(u3, u3, q3)
        r0, r1, r2, r3 = r0 + u0, r1 + u1, r2 + u2, r3 + u3
        p += pitch
    c0, c1 = load(first), load(first + BYTES)
    c2, c3 = load(first + 2 * BYTES), load(first + 3 * BYTES)
    put_four(means, fma(r0, share, m0 - c0), fma(r1, share, m1 - c1), fma(r2, share, m2 - c2),
             fma(r3, share, m3 - c3))  # fmt: skip
    put_four(means + pitch, q0 - r0 * r0 * share, q1 - r1 * r1 * share, q2 - r2 * r2 * share,
             q3 - r3 * r3 * share)  # fmt: skip


@kernel
def stats_rows(chunk, worker, x, partial, rows, channels, step):
    """Channels innermost: block ``chunk`` of ``step`` rows."""
    first = chunk * step
    count = min(step, rows - first)
    pitch = 4 * channels
    start, means = x + first * pitch, partial + chunk * 2 * pitch
    zero = splat(f4(0))
    share = splat(f4(1) / f4(count))
    fours = channels // (4 * WIDTH) * 4 * WIDTH
    for c in range(0, fours, 4 * WIDTH):
        _stats_of_four(start + 4 * c, pitch, count, x + 4 * c, means + 4 * c)
    for c in range(fours, channels, WIDTH):
        lanes = min(WIDTH, channels - c)
        a, b, p = zero, zero, start + 4 * c
        for _ in range(count // 2):
            a = a + vget(p, lanes)
            b = b + vget(p + pitch, lanes)
            p += 2 * pitch
        if count % 2:
            a = a + vget(p, lanes)
        mean = (a + b) * share
        a, b, rest, p = zero, zero, zero, start + 4 * c
        for _ in range(count // 2):
            u, v = vget(p, lanes) - mean, vget(p + pitch, lanes) - mean
            a, b = fma(u, u, a), fma(v, v, b)
            rest = rest + (u + v)
            p += 2 * pitch
        if count % 2:
            u = vget(p, lanes) - mean
            a, rest = fma(u, u, a), rest + u
        vput(means + 4 * c, fma(rest, share, mean - vget(x + 4 * c, lanes)), lanes)
        vput(means + pitch + 4 * c, a + b - rest * rest * share, lanes)


@kernel
def stats_planes(chunk, worker, x, partial, planes, channels, inner, step):
    """``step`` planes of ``inner`` neighbours each."""
    zero, whole, tail = splat(f4(0)), inner // WIDTH * WIDTH, inner % WIDTH
    for plane in range(chunk * step, min(planes, (chunk + 1) * step)):
        p = x + 4 * plane * inner
        a = zero
        for i in range(0, whole, WIDTH):
            a = a + load(p + 4 * i)
        if tail:
            a = a + load_part(p + 4 * whole, tail)
        mean = lane_sum(a) / f4(inner)
        m, a, b = splat(mean), zero, zero
        for i in range(0, whole, WIDTH):
            u = load(p + 4 * i) - m
            a, b = fma(u, u, a), b + u
        square, rest = lane_sum(a), lane_sum(b)
        for i in range(whole, inner):
            away = get32(p, i) - mean
            square += away * away
            rest += away
        at = partial + 4 * (plane // channels * 2 * channels + plane % channels)
        store_f32(at, (mean - get32(x, plane % channels * inner)) + rest / f4(inner))
        store_f32(at + 4 * channels, square - rest * rest / f4(inner))


@kernel
def combine_stats(chunk, worker, x, inner, partial, blocks, channels, count, last, out):
    """out[0, c], out[1, c] = mean and variance (float32) over all blocks: ``count`` terms each,
    ``last`` in the last one."""
    total = (blocks - 1) * count + last
    for c in range(channels):
        mean = 0.0
        for k in range(blocks):
            n = count if k < blocks - 1 else last
            mean += n * float(get32(partial, k * 2 * channels + c))
        mean /= total
        squares = 0.0
        for k in range(blocks):
            n = count if k < blocks - 1 else last
            away = get32(partial, k * 2 * channels + c) - mean
            squares += get32(partial, (k * 2 + 1) * channels + c) + n * away * away
        put32(out, c, f4(get32(x, c * inner) + mean))
        put32(out, channels + c, f4(squares / total))


# ---------------------------------------------------------------------------------------------
# Backward, first pass: partial[k] = (Σ g, Σ g·(x − mean)), with g = gy where y > 0 after a ReLU
# ---------------------------------------------------------------------------------------------
@device(inline=True)
def _masked(gy, y, g, at, options):
    """gy where y > 0 after a ReLU; also written to g with RESIDUAL."""
    v = load(gy + at)
    if options & RELU:
        v = select_gt(load(y + at), splat(f4(0)), v, splat(f4(0)))
    if options & RESIDUAL:
        store(g + at, v)
    return v


@device
def _sums_of_four(gy, x, y, g, at, pitch, count, mean, sums, options):
    """``sums_rows`` for four vectors of channels, as in ``_stats_of_four``."""
    zero = splat(f4(0))
    m0, m1 = load(mean), load(mean + BYTES)
    m2, m3 = load(mean + 2 * BYTES), load(mean + 3 * BYTES)
    t0, t1, t2, t3 = zero, zero, zero, zero
    s0, s1, s2, s3 = zero, zero, zero, zero
    for _ in range(count):
        v0 = _masked(gy, y, g, at, options)
        v1 = _masked(gy, y, g, at + BYTES, options)
        v2 = _masked(gy, y, g, at + 2 * BYTES, options)
        v3 = _masked(gy, y, g, at + 3 * BYTES, options)
        t0, t1, t2, t3 = t0 + v0, t1 + v1, t2 + v2, t3 + v3
        s0 = fma(v0, load(x + at) - m0, s0)
        s1 = fma(v1, load(x + at + BYTES) - m1, s1)
        s2 = fma(v2, load(x + at + 2 * BYTES) - m2, s2)
        s3 = fma(v3, load(x + at + 3 * BYTES) - m3, s3)
        at += pitch
    put_four(sums, t0, t1, t2, t3)
    put_four(sums + pitch, s0, s1, s2, s3)


@kernel
def sums_rows(chunk, worker, gy, x, y, g, mean, partial, rows, channels, step, options):
    """Channels innermost. With RESIDUAL, g (the residual's gradient) is also written."""
    first = chunk * step
    count = min(step, rows - first)
    pitch, zero = 4 * channels, splat(f4(0))
    sums = partial + chunk * 2 * pitch
    fours = channels // (4 * WIDTH) * 4 * WIDTH
    for c in range(0, fours, 4 * WIDTH):
        _sums_of_four(gy, x, y, g, first * pitch + 4 * c, pitch, count, mean + 4 * c, sums + 4 * c,
                      options)  # fmt: skip
    for c in range(fours, channels, WIDTH):
        lanes = min(WIDTH, channels - c)
        m, total, moment = vget(mean + 4 * c, lanes), zero, zero
        at = first * pitch + 4 * c
        for _ in range(count):
            v = vget(gy + at, lanes)
            if options & RELU:
                v = select_gt(vget(y + at, lanes), zero, v, zero)
            if options & RESIDUAL:
                vput(g + at, v, lanes)
            total = total + v
            moment = fma(v, vget(x + at, lanes) - m, moment)
            at += pitch
        vput(sums + 4 * c, total, lanes)
        vput(sums + pitch + 4 * c, moment, lanes)


@kernel
def sums_planes(chunk, worker, gy, x, y, g, mean, partial, planes, channels, inner, step, options):
    """Runs of one channel."""
    zero = splat(f4(0))
    for plane in range(chunk * step, min(planes, (chunk + 1) * step)):
        c, base = plane % channels, 4 * plane * inner
        m, total, moment = splat(get32(mean, c)), zero, zero
        for i in range(0, inner, WIDTH):
            lanes, at = min(WIDTH, inner - i), base + 4 * i
            v = vget(gy + at, lanes)
            if options & RELU:
                v = select_gt(vget(y + at, lanes), zero, v, zero)
            if options & RESIDUAL:
                vput(g + at, v, lanes)
            total = total + v
            moment = fma(v, vget(x + at, lanes) - m, moment)  # v is 0 beyond the end
        at = partial + 4 * (plane // channels * 2 * channels + c)
        store_f32(at, lane_sum(total))
        store_f32(at + 4 * channels, lane_sum(moment))


@kernel
def combine_sums(
    chunk, worker, partial, blocks, channels, mean, var, weight, eps, terms, sums, table, gweight,
    gbias,
):  # fmt: skip
    """What follows from the sums over all blocks: gweight, gbias, and ``input_rows``' table."""
    for j in range(2 * channels):
        put64(sums, j, 0.0)
    for k in range(blocks):
        for j in range(2 * channels):
            put64(sums, j, read64(sums, j) + get32(partial, k * 2 * channels + j))
    for c in range(channels):
        total, moment = read64(sums, c), read64(sums, channels + c)
        inverse = 1.0 / math.sqrt(get32(var, c) + read64(eps, 0))
        scale = inverse * get32(weight, c) if weight else inverse
        put32(table, c, get32(mean, c))
        put32(table, channels + c, f4(scale))
        put32(table, 2 * channels + c, f4(-scale * inverse * inverse * moment / terms))
        put32(table, 3 * channels + c, f4(-scale * total / terms))
        put32(gweight, c, f4(moment * inverse))
        put32(gbias, c, f4(total))
