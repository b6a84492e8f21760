/* SPDX-License-Identifier: Apache-2.0 */
/* What the example computes in place of the machine: Softmax and Reshape of int8 tensors. */
#ifndef HOST_H
#define HOST_H

#include "accel_program.h"

enum { HOST_TENSORS = 8, HOST_VALUES = 4096 };

/* `machine` is given; the tensors without an address, which only the host has, begin with zeros. */
struct host {
    const struct accel *machine;
    struct host_tensor {
        struct accel_json name;
        size_t bytes;
        int8_t values[HOST_VALUES]; /* channels fastest */
    } tensors[HOST_TENSORS];
    uint32_t count;
    struct accel_json refused; /* the node that the last run ended at, if the callback refused one */
};

/* The callback of accel_program_run; `context` is a struct host. */
enum accel_status host_compute(void *context, const struct accel_program *program, const struct accel_segment *segment);

/* The tensor of this name; null if the host has none. */
const struct host_tensor *host_find(const struct host *host, struct accel_json name);

#endif
