/* Layers of a quantized network, in plain C99 and integers. Tensors are int8, (height, width, channels), row-major. */
#ifndef ACCEL_REFERENCE_H
#define ACCEL_REFERENCE_H

#include <stdint.h>

/* How int32 sums are multiplied by a real number q * 2^(e - 31). */
typedef enum {
    ROUND_TFLITE, /* rounding doubling high product, then rounding shift: TensorFlow Lite (Micro) */
    ROUND_SINGLE, /* one rounding, ties towards plus infinity */
    ROUND_FP32    /* float32 product, ties to even: ONNX Runtime */
} rounding;

int32_t requantize(int32_t x, int32_t q, int e, rounding mode);

/* y = clamp(requantize(sum(w * (x - zero_point_in)) + bias) + zero_point_out, act_min, act_max), per output channel.
   weight (out_channels, kernel_height, kernel_width, in_channels / groups); output part i reads input part i. */
typedef struct {
    int32_t height, width, channels, out_height, out_width, out_channels;
    int32_t kernel_height, kernel_width, stride_y, stride_x, dilation_y, dilation_x, pad_top, pad_left, groups;
    int32_t zero_point_in, zero_point_out, act_min, act_max;
    int32_t weight_bits; /* 8, or 4: two weights in a byte, the first in its low half */
    const int8_t *weight;
    const int32_t *bias, *multiplier;
    const int8_t *shift;
    rounding mode;
} conv_layer;

void conv2d(const conv_layer *l, const int8_t *x, int8_t *y);

/* Input (i, j) adds w * (x - zero_point_in) to output (i * stride + ky - pad, j * stride + kx - pad); groups is 1. */
void transpose_conv2d(const conv_layer *l, const int8_t *x, int8_t *y);

/* A window of which only the taps inside the image count. */
typedef struct {
    int32_t height, width, channels, out_height, out_width;
    int32_t kernel_height, kernel_width, stride_y, stride_x, pad_top, pad_left;
    int32_t act_min, act_max;
    int32_t offset; /* of average_pool2d: rounds the mean of x + offset */
    int32_t zero_point_in, zero_point_out, multiplier, shift; /* of mean */
    rounding mode;
} pool_layer;

void max_pool2d(const pool_layer *l, const int8_t *x, int8_t *y);
void average_pool2d(const pool_layer *l, const int8_t *x, int8_t *y); /* ties away from zero */
void mean(const pool_layer *l, const int8_t *x, int8_t *y);           /* requantize(sum(x - zero_point_in)) */

/* y_i = requantize((x_i - zero_point_i) << left_shift, multiplier_i, shift_i) for both operands, then
   clamp(requantize(y_0 + y_1, multiplier, shift) + zero_point_out, act_min, act_max); likewise - and the square of it.
   multiply: requantize((x_0 - zero_point_0) * (x_1 - zero_point_1), multiplier, shift). */
typedef struct {
    int32_t size, left_shift;
    int32_t zero_point_0, multiplier_0, shift_0, zero_point_1, multiplier_1, shift_1;
    int32_t zero_point_out, multiplier, shift, act_min, act_max;
    rounding mode;
} binary_layer;

void add(const binary_layer *l, const int8_t *x0, const int8_t *x1, int8_t *y);
void subtract(const binary_layer *l, const int8_t *x0, const int8_t *x1, int8_t *y);
void squared_difference(const binary_layer *l, const int8_t *x0, const int8_t *x1, int8_t *y);
void multiply(const binary_layer *l, const int8_t *x0, const int8_t *x1, int8_t *y);
void maximum(int32_t size, const int8_t *x0, const int8_t *x1, int8_t *y);

void clamp(int32_t size, int32_t act_min, int32_t act_max, const int8_t *x, int8_t *y);
void table(int32_t size, const int8_t *entries, const int8_t *x, int8_t *y); /* y = entries[x + 128] */

/* y[to + sum(i * to_step)] = x[from + sum(i * from_step)] for all indices i of `rank` axes. */
enum { MOST_AXES = 8 };
typedef struct {
    int32_t rank, from, to;
    int32_t size[MOST_AXES], from_step[MOST_AXES], to_step[MOST_AXES];
} move_layer;

void move(const move_layer *l, const int8_t *x, int8_t *y);
void fill(int32_t size, int32_t value, int8_t *y);

/* Elements `indices` along the middle axis of (outer, axis, inner). */
typedef struct {
    int32_t outer, axis, inner, count;
    const int32_t *indices;
} gather_layer;

void gather(const gather_layer *l, const int8_t *x, int8_t *y);

/* Mean of four pixels, ties away from zero; rows and columns are (first, second, weight of the second / 1024). */
typedef struct {
    int32_t width, channels, out_height, out_width;
    const int32_t *rows, *columns;
} bilinear_layer;

void resize_bilinear(const bilinear_layer *l, const int8_t *x, int8_t *y);

/* Softmax over the last axis. With fixed point the result has scale 1/256 and zero point -128: multiplier and shift
   bring differences to the maximum to 5 integer bits, those beyond `radius` count as nothing. With ROUND_FP32 it is
   computed in double: scale_in is that of x, scale_out and zero_point_out those of y. */
typedef struct {
    int32_t rows, classes, multiplier, shift;
    int64_t radius;
    double scale_in, scale_out;
    int32_t zero_point_out;
    rounding mode;
} softmax_layer;

void softmax(const softmax_layer *l, const int8_t *x, int8_t *y);

#endif
