#include "reference.h"

#include <math.h>
#include <string.h>

/* v / 2^n, rounded down: an arithmetic shift, which C leaves open for negative numbers. */
static int64_t shift_right(int64_t v, int n) { return v >= 0 ? v >> n : ~(~v >> n); }

/* v / 2^n, ties away from zero. */
static int64_t divide_by_power(int64_t v, int n) {
    int64_t mask = ((int64_t)1 << n) - 1;
    return shift_right(v, n) + ((v & mask) > (mask >> 1) + (v < 0));
}

/* v / 2^n for v >= 0, ties to even. */
static uint64_t half_even(uint64_t v, int n) {
    uint64_t whole = v >> n, rest = v & (((uint64_t)1 << n) - 1), half = ((uint64_t)1 << n) >> 1;
    return whole + (rest > half || (n > 0 && rest == half && (whole & 1)));
}

static int bit_length(uint64_t v) {
    int bits = 0;
    for (; v; v >>= 1) bits++;
    return bits;
}

static int32_t wrap(int64_t v) { return (int32_t)(uint32_t)v; }

static int64_t saturate(int64_t v, int64_t low, int64_t high) { return v < low ? low : v > high ? high : v; }

static int at_most(int v, int most) { return v < most ? v : most; }

static int at_least(int v, int least) { return v > least ? v : least; }

static int64_t requantize_tflite(int32_t x, int32_t q, int e) {
    int32_t shifted = wrap((int64_t)((uint64_t)(int64_t)x << at_least(e, 0)));
    int64_t high = shift_right((int64_t)shifted * q + ((int64_t)1 << 30), 31);
    return divide_by_power(high, at_least(-e, 0));
}

static int64_t requantize_single(int32_t x, int32_t q, int e) {
    return wrap(shift_right((int64_t)x * q + ((int64_t)1 << (30 - e)), 31 - e));
}

/* float32(x) * float32(q * 2^(e - 31)) rounded to an integer, without floating point: magnitudes are rounded to 24 bits,
   so is their product, and so is the integer, each to nearest, ties to even. */
static int64_t requantize_fp32(int32_t x, int32_t q, int e) {
    uint64_t magnitude = x < 0 ? (uint64_t)(-(int64_t)x) : (uint64_t)x;
    int d = at_least(bit_length(magnitude) - 24, 0);
    uint64_t product = half_even(magnitude, d) * (uint64_t)(q >> 7);
    int k = at_least(bit_length(product) - 24, 0);
    uint64_t significand = half_even(product, k);
    int right = 24 - d - k - e;
    uint64_t y = right > 0 ? half_even(significand, at_most(right, 40)) : significand << at_most(-right, 32);
    return saturate(x < 0 ? -(int64_t)y : (int64_t)y, INT32_MIN, INT32_MAX);
}

int32_t requantize(int32_t x, int32_t q, int e, rounding mode) {
    if (mode == ROUND_TFLITE) return (int32_t)requantize_tflite(x, q, e);
    if (mode == ROUND_SINGLE) return (int32_t)requantize_single(x, q, e);
    return (int32_t)requantize_fp32(x, q, e);
}

/* requantize, add the zero point, limit. */
static int8_t finish(int32_t sum, int32_t q, int e, rounding mode, int32_t zero_point, int32_t low, int32_t high) {
    return (int8_t)saturate((int64_t)requantize(sum, q, e, mode) + zero_point, low, high);
}

static int inside(int32_t v, int32_t size) { return v >= 0 && v < size; }

static int32_t weight(const conv_layer *l, int32_t i) {
    if (l->weight_bits == 8) return l->weight[i];
    int32_t half = (uint8_t)l->weight[i / 2] >> (i % 2 * 4) & 15;
    return half < 8 ? half : half - 16;
}

void conv2d(const conv_layer *l, const int8_t *x, int8_t *y) {
    int32_t depth = l->channels / l->groups, per_group = l->out_channels / l->groups;
    for (int32_t oy = 0; oy < l->out_height; oy++)
        for (int32_t ox = 0; ox < l->out_width; ox++)
            for (int32_t oc = 0; oc < l->out_channels; oc++) {
                int64_t sum = l->bias[oc];
                for (int32_t ky = 0; ky < l->kernel_height; ky++)
                    for (int32_t kx = 0; kx < l->kernel_width; kx++) {
                        int32_t iy = oy * l->stride_y + ky * l->dilation_y - l->pad_top;
                        int32_t ix = ox * l->stride_x + kx * l->dilation_x - l->pad_left;
                        if (!inside(iy, l->height) || !inside(ix, l->width)) continue;
                        const int8_t *in = x + (iy * l->width + ix) * l->channels + oc / per_group * depth;
                        int32_t first = ((oc * l->kernel_height + ky) * l->kernel_width + kx) * depth;
                        for (int32_t ic = 0; ic < depth; ic++)
                            sum += weight(l, first + ic) * (in[ic] - l->zero_point_in);
                    }
                *y++ = finish(wrap(sum), l->multiplier[oc], l->shift[oc], l->mode, l->zero_point_out, l->act_min,
                              l->act_max);
            }
}

void transpose_conv2d(const conv_layer *l, const int8_t *x, int8_t *y) {
    int32_t depth = l->channels / l->groups, per_group = l->out_channels / l->groups;
    for (int32_t oy = 0; oy < l->out_height; oy++)
        for (int32_t ox = 0; ox < l->out_width; ox++)
            for (int32_t oc = 0; oc < l->out_channels; oc++) {
                int64_t sum = l->bias[oc];
                for (int32_t ky = 0; ky < l->kernel_height; ky++)
                    for (int32_t kx = 0; kx < l->kernel_width; kx++) {
                        int32_t py = oy + l->pad_top - ky, px = ox + l->pad_left - kx;
                        if (py % l->stride_y || px % l->stride_x) continue;
                        int32_t iy = py / l->stride_y, ix = px / l->stride_x;
                        if (!inside(iy, l->height) || !inside(ix, l->width)) continue;
                        const int8_t *in = x + (iy * l->width + ix) * l->channels + oc / per_group * depth;
                        int32_t first = ((oc * l->kernel_height + ky) * l->kernel_width + kx) * depth;
                        for (int32_t ic = 0; ic < depth; ic++)
                            sum += weight(l, first + ic) * (in[ic] - l->zero_point_in);
                    }
                *y++ = finish(wrap(sum), l->multiplier[oc], l->shift[oc], l->mode, l->zero_point_out, l->act_min,
                              l->act_max);
            }
}

/* Largest, sum and number of the taps inside the image. */
typedef struct {
    int64_t largest, sum, count;
} taps;

static taps window(const pool_layer *l, const int8_t *x, int32_t oy, int32_t ox, int32_t c) {
    taps t = {INT8_MIN, 0, 0};
    for (int32_t ky = 0; ky < l->kernel_height; ky++)
        for (int32_t kx = 0; kx < l->kernel_width; kx++) {
            int32_t iy = oy * l->stride_y + ky - l->pad_top, ix = ox * l->stride_x + kx - l->pad_left;
            if (!inside(iy, l->height) || !inside(ix, l->width)) continue;
            int8_t v = x[(iy * l->width + ix) * l->channels + c];
            if (v > t.largest) t.largest = v;
            t.sum += v;
            t.count++;
        }
    return t;
}

void max_pool2d(const pool_layer *l, const int8_t *x, int8_t *y) {
    for (int32_t oy = 0; oy < l->out_height; oy++)
        for (int32_t ox = 0; ox < l->out_width; ox++)
            for (int32_t c = 0; c < l->channels; c++)
                *y++ = (int8_t)saturate(window(l, x, oy, ox, c).largest, l->act_min, l->act_max);
}

void average_pool2d(const pool_layer *l, const int8_t *x, int8_t *y) {
    for (int32_t oy = 0; oy < l->out_height; oy++)
        for (int32_t ox = 0; ox < l->out_width; ox++)
            for (int32_t c = 0; c < l->channels; c++) {
                taps t = window(l, x, oy, ox, c);
                int64_t total = t.sum + t.count * l->offset;
                int64_t half = total < 0 ? -(t.count / 2) : t.count / 2;
                *y++ = (int8_t)saturate((total + half) / t.count - l->offset, l->act_min, l->act_max);
            }
}

void mean(const pool_layer *l, const int8_t *x, int8_t *y) {
    for (int32_t oy = 0; oy < l->out_height; oy++)
        for (int32_t ox = 0; ox < l->out_width; ox++)
            for (int32_t c = 0; c < l->channels; c++) {
                taps t = window(l, x, oy, ox, c);
                *y++ = finish(wrap(t.sum - t.count * l->zero_point_in), l->multiplier, l->shift, l->mode,
                              l->zero_point_out, l->act_min, l->act_max);
            }
}

static int64_t operand(int32_t difference, const binary_layer *l, int32_t q, int e) {
    return requantize(difference * (1 << l->left_shift), q, e, l->mode);
}

static int8_t combined(const binary_layer *l, int64_t sum) {
    return finish(wrap(sum), l->multiplier, l->shift, l->mode, l->zero_point_out, l->act_min, l->act_max);
}

void add(const binary_layer *l, const int8_t *x0, const int8_t *x1, int8_t *y) {
    for (int32_t i = 0; i < l->size; i++)
        y[i] = combined(l, operand(x0[i] - l->zero_point_0, l, l->multiplier_0, l->shift_0) +
                               operand(x1[i] - l->zero_point_1, l, l->multiplier_1, l->shift_1));
}

static int64_t difference(const binary_layer *l, int8_t x0, int8_t x1) {
    return operand(x0 - l->zero_point_0, l, l->multiplier_0, l->shift_0) -
           operand(x1 - l->zero_point_1, l, l->multiplier_1, l->shift_1);
}

void subtract(const binary_layer *l, const int8_t *x0, const int8_t *x1, int8_t *y) {
    for (int32_t i = 0; i < l->size; i++) y[i] = combined(l, difference(l, x0[i], x1[i]));
}

void squared_difference(const binary_layer *l, const int8_t *x0, const int8_t *x1, int8_t *y) {
    for (int32_t i = 0; i < l->size; i++) {
        int64_t d = difference(l, x0[i], x1[i]);
        y[i] = combined(l, (int64_t)((uint64_t)d * (uint64_t)d));
    }
}

void multiply(const binary_layer *l, const int8_t *x0, const int8_t *x1, int8_t *y) {
    for (int32_t i = 0; i < l->size; i++)
        y[i] = combined(l, (int64_t)(x0[i] - l->zero_point_0) * (x1[i] - l->zero_point_1));
}

void maximum(int32_t size, const int8_t *x0, const int8_t *x1, int8_t *y) {
    for (int32_t i = 0; i < size; i++) y[i] = x0[i] > x1[i] ? x0[i] : x1[i];
}

void clamp(int32_t size, int32_t act_min, int32_t act_max, const int8_t *x, int8_t *y) {
    for (int32_t i = 0; i < size; i++) y[i] = (int8_t)saturate(x[i], act_min, act_max);
}

void table(int32_t size, const int8_t *entries, const int8_t *x, int8_t *y) {
    for (int32_t i = 0; i < size; i++) y[i] = entries[x[i] + 128];
}

void move(const move_layer *l, const int8_t *x, int8_t *y) {
    int32_t index[MOST_AXES] = {0}, from = l->from, to = l->to, axis;
    do {
        y[to] = x[from];
        for (axis = l->rank - 1; axis >= 0; axis--) {
            from += l->from_step[axis];
            to += l->to_step[axis];
            if (++index[axis] < l->size[axis]) break;
            from -= l->from_step[axis] * l->size[axis];
            to -= l->to_step[axis] * l->size[axis];
            index[axis] = 0;
        }
    } while (axis >= 0);
}

void fill(int32_t size, int32_t value, int8_t *y) { memset(y, value, (size_t)size); }

void gather(const gather_layer *l, const int8_t *x, int8_t *y) {
    for (int32_t outer = 0; outer < l->outer; outer++)
        for (int32_t i = 0; i < l->count; i++, y += l->inner)
            memcpy(y, x + (outer * l->axis + l->indices[i]) * l->inner, (size_t)l->inner);
}

void resize_bilinear(const bilinear_layer *l, const int8_t *x, int8_t *y) {
    const int64_t one = 1024, half = one * one / 2;
    for (int32_t oy = 0; oy < l->out_height; oy++)
        for (int32_t ox = 0; ox < l->out_width; ox++) {
            const int32_t *row = l->rows + 3 * oy, *column = l->columns + 3 * ox;
            for (int32_t c = 0; c < l->channels; c++) {
                int64_t total = 0;
                for (int i = 0; i < 2; i++)
                    for (int j = 0; j < 2; j++) {
                        int64_t wy = i ? row[2] : one - row[2], wx = j ? column[2] : one - column[2];
                        total += wy * wx * x[(row[i] * l->width + column[j]) * l->channels + c];
                    }
                *y++ = (int8_t)((total < 0 ? total - half : total + half) / (2 * half));
            }
        }
}

/* Rounded product of fixed-point numbers of 31 bits. */
static int64_t product(int64_t a, int64_t b) { return shift_right(a * b + ((int64_t)1 << 30), 31); }

/* exp(a) with 31 fraction bits for a <= 0 with 5 integer bits: a polynomial on [-1/4, 0), then a factor per bit. */
static int64_t exp_negative(int64_t a) {
    static const int64_t factors[] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
    if (a == 0) return INT32_MAX;
    int64_t quarter = (int64_t)1 << 24, fraction = (a & (quarter - 1)) - quarter;
    int64_t x = fraction * 32 + ((int64_t)1 << 28), x2 = product(x, x), x3 = product(x2, x), x4 = product(x2, x2);
    int64_t tail = divide_by_power(product(divide_by_power(x4, 2) + x3, 715827883) + x2, 1);
    int64_t result = 1895147668 + product(1895147668, x + tail), rest = fraction - a;
    for (int bit = 0; bit < 7; bit++)
        if (rest >> (24 + bit) & 1) result = product(result, factors[bit]);
    return result;
}

/* 1 / (1 + a) with 31 fraction bits for a in [0, 1]: three Newton-Raphson steps. */
static int64_t reciprocal_of_one_plus(int64_t a) {
    int64_t half = (a + INT32_MAX + 1) >> 1, x = 1515870810 + product(half, -1010580540);
    for (int i = 0; i < 3; i++) {
        int64_t error = ((int64_t)1 << 29) - product(half, x);
        x += saturate(product(x, error) * 4, INT32_MIN, INT32_MAX);
    }
    return saturate(x * 2, INT32_MIN, INT32_MAX);
}

static int largest_of(const int8_t *x, int32_t count) {
    int largest = x[0];
    for (int32_t i = 1; i < count; i++) largest = x[i] > largest ? x[i] : largest;
    return largest;
}

/* exp of the scaled difference to the maximum, or -1 where that is too far away to count. */
static int64_t exponential(const softmax_layer *l, int32_t difference) {
    if (difference < -l->radius) return -1;
    return exp_negative(requantize(difference, l->multiplier, l->shift, l->mode));
}

static void softmax_fixed(const softmax_layer *l, const int8_t *x, int8_t *y) {
    int largest = largest_of(x, l->classes);
    int64_t total = 0;
    for (int32_t i = 0; i < l->classes; i++) {
        int64_t e = exponential(l, x[i] - largest);
        if (e >= 0) total += divide_by_power(e, 12);
    }
    int zeros = 32 - bit_length((uint64_t)total);
    int64_t reciprocal = reciprocal_of_one_plus((total << zeros) - ((int64_t)1 << 31));
    for (int32_t i = 0; i < l->classes; i++) {
        int64_t e = exponential(l, x[i] - largest);
        int64_t share = e < 0 ? 0 : divide_by_power(product(reciprocal, e), 12 - zeros + 31 - 8);
        y[i] = (int8_t)saturate(share - 128, INT8_MIN, INT8_MAX);
    }
}

static void softmax_real(const softmax_layer *l, const int8_t *x, int8_t *y) {
    int largest = largest_of(x, l->classes);
    double total = 0;
    for (int32_t i = 0; i < l->classes; i++) total += exp((x[i] - largest) * l->scale_in);
    for (int32_t i = 0; i < l->classes; i++) {
        double steps = rint(exp((x[i] - largest) * l->scale_in) / total / l->scale_out) + l->zero_point_out;
        y[i] = (int8_t)saturate((int64_t)steps, INT8_MIN, INT8_MAX);
    }
}

void softmax(const softmax_layer *l, const int8_t *x, int8_t *y) {
    for (int32_t row = 0; row < l->rows; row++, x += l->classes, y += l->classes) {
        if (l->mode == ROUND_FP32)
            softmax_real(l, x, y);
        else
            softmax_fixed(l, x, y);
    }
}
