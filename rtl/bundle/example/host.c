/* SPDX-License-Identifier: Apache-2.0 */
#include "host.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const struct host_tensor *host_find(const struct host *host, struct accel_json name)
{
    uint32_t i;

    for (i = 0; i < host->count; ++i)
        if (accel_json_equal(host->tensors[i].name, name))
            return &host->tensors[i];
    return NULL;
}

/* Room for a tensor without an address: that of the run before, or a new one; null if there is none left. */
static struct host_tensor *room(struct host *host, struct accel_json name)
{
    struct host_tensor *found = (struct host_tensor *)host_find(host, name);

    if (!found && host->count < HOST_TENSORS) {
        found = &host->tensors[host->count++];
        found->name = name;
    }
    return found;
}

static double number(const struct accel_tensor *tensor, const char *key)
{
    return strtod((const char *)accel_json_member(tensor->description, key).at, NULL);
}

/* In real numbers, halves to even: mode fp32 to the bit; the fixed point of the other modes may differ by one. */
static void softmax(const int8_t *x, int8_t *y, uint32_t channels, double scale, double y_scale, double y_zero_point)
{
    double sum = 0;
    int largest = x[0];
    uint32_t c;

    for (c = 1; c < channels; ++c)
        largest = x[c] > largest ? x[c] : largest;
    for (c = 0; c < channels; ++c)
        sum += exp((x[c] - largest) * scale);
    for (c = 0; c < channels; ++c) {
        const double value = rint(exp((x[c] - largest) * scale) / sum / y_scale) + y_zero_point;

        y[c] = (int8_t)(value < -128 ? -128 : value > 127 ? 127 : value);
    }
}

/* Whether all operators that the program leaves to the host are Softmax. */
static bool only_softmax(const struct accel_program *program)
{
    const struct accel_json operators = accel_json_member(program->header, "operators");
    struct accel_json found;
    uint32_t i;

    for (i = 0; (found = accel_json_element(operators, i)).at; ++i)
        if (accel_json_is(accel_json_member(found, "unit"), "\"host\"") &&
            !accel_json_is(accel_json_member(found, "op"), "\"Softmax\""))
            return false;
    return true;
}

enum accel_status host_compute(void *context, const struct accel_program *program, const struct accel_segment *segment)
{
    static int8_t x[HOST_VALUES], y[HOST_VALUES];
    struct host *host = context;
    struct accel_tensor input, output;
    struct host_tensor *kept;
    uint32_t pixel;

    if (segment->count != 1 || !only_softmax(program) || !accel_program_tensor(program, segment->inputs, 0, &input) ||
        !accel_program_tensor(program, segment->outputs, 0, &output) || !input.has_address || input.bytes > HOST_VALUES)
        return ACCEL_HOST;
    accel_tensor_read(host->machine, program, &input, x);
    for (pixel = 0; pixel < input.pixels; ++pixel)
        softmax(x + (size_t)pixel * input.channels, y + (size_t)pixel * input.channels, input.channels,
                number(&input, "scale"), number(&output, "scale"), number(&output, "zero_point"));
    if (output.has_address) {
        accel_tensor_write(host->machine, program, &output, y);
        return ACCEL_OK;
    }
    kept = room(host, output.name);
    if (!kept)
        return ACCEL_HOST;
    kept->bytes = (size_t)input.bytes;
    memcpy(kept->values, y, kept->bytes);
    return ACCEL_OK;
}
