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

/* What the host graph says about a tensor. */
static struct accel_json description(const struct accel_program *program, struct accel_json name)
{
    const struct accel_json tensors = accel_json_member(program->graph, "tensors");
    struct accel_json found;
    uint32_t i;

    for (i = 0; (found = accel_json_element(tensors, i)).at; ++i)
        if (accel_json_equal(accel_json_member(found, "name"), name))
            break;
    return found;
}

static double number(struct accel_json tensor, const char *key)
{
    return strtod((const char *)accel_json_member(tensor, key).at, NULL);
}

/* How many values an int8 tensor has, and how many channels; false if the host has no room for it. */
static bool extent(struct accel_json tensor, size_t *count, size_t *channels)
{
    const struct accel_json shape = accel_json_member(tensor, "shape");
    uint32_t size, i;

    *count = *channels = 1;
    for (i = 0; accel_json_word(accel_json_element(shape, i), &size); ++i) {
        *channels = size;
        if (size == 0 || *count > HOST_VALUES / size)
            return false;
        *count *= size;
    }
    return accel_json_is(accel_json_member(tensor, "dtype"), "\"int8\"");
}

/* A tensor of the machine's memory among `names`. */
static bool in_memory(const struct accel_program *program, struct accel_json names, struct accel_json name,
                      struct accel_tensor *tensor)
{
    uint32_t i;

    for (i = 0; accel_program_tensor(program, names, i, tensor); ++i)
        if (tensor->has_address && accel_json_equal(tensor->name, name))
            return true;
    return false;
}

/* In real numbers, halves to even: mode fp32 to the bit; the fixed point of the other modes may differ by one. */
static void softmax(const int8_t *x, int8_t *y, size_t channels, double scale, double y_scale, double y_zero_point)
{
    double sum = 0;
    int largest = x[0];
    size_t c;

    for (c = 1; c < channels; ++c)
        largest = x[c] > largest ? x[c] : largest;
    for (c = 0; c < channels; ++c)
        sum += exp((x[c] - largest) * scale);
    for (c = 0; c < channels; ++c) {
        const double value = rint(exp((x[c] - largest) * scale) / sum / y_scale) + y_zero_point;

        y[c] = (int8_t)(value < -128 ? -128 : value > 127 ? 127 : value);
    }
}

/* One node of the host graph; false if it is refused. */
static bool compute(struct host *host, const struct accel_program *program, const struct accel_segment *segment,
                    struct accel_json node)
{
    static int8_t x[HOST_VALUES], y[HOST_VALUES];
    const struct accel_json from = accel_json_element(accel_json_member(node, "inputs"), 0);
    const struct accel_json to = accel_json_member(node, "output");
    const struct accel_json input = description(program, from), output = description(program, to);
    const struct host_tensor *source = host_find(host, from);
    struct host_tensor *target;
    struct accel_tensor tensor;
    size_t count, channels, pixel;

    if (!extent(input, &count, &channels) || !extent(output, &count, &channels))
        return false;
    if (in_memory(program, segment->inputs, from, &tensor) || in_memory(program, segment->outputs, from, &tensor))
        accel_tensor_read(host->machine, program, &tensor, x);
    else if (source)
        memcpy(x, source->values, count);
    else
        return false;
    if (accel_json_is(accel_json_member(node, "op"), "\"Reshape\""))
        memcpy(y, x, count); /* the same values in the same order */
    else if (accel_json_is(accel_json_member(node, "op"), "\"Softmax\""))
        for (pixel = 0; pixel < count; pixel += channels)
            softmax(x + pixel, y + pixel, channels, number(input, "scale") * number(node, "beta"),
                    number(output, "scale"), number(output, "zero_point"));
    else
        return false;
    if (in_memory(program, segment->outputs, to, &tensor)) {
        accel_tensor_write(host->machine, program, &tensor, y);
        return true;
    }
    target = room(host, to);
    if (!target)
        return false;
    target->bytes = count;
    memcpy(target->values, y, count);
    return true;
}

enum accel_status host_compute(void *context, const struct accel_program *program, const struct accel_segment *segment)
{
    const struct accel_json nodes = accel_json_member(program->graph, "nodes");
    struct host *host = context;
    uint32_t i;

    for (i = segment->first; i < segment->first + segment->count; ++i) {
        const struct accel_json node = accel_json_element(nodes, i);

        if (!compute(host, program, segment, node)) {
            host->refused = node;
            return ACCEL_HOST;
        }
    }
    return ACCEL_OK;
}
