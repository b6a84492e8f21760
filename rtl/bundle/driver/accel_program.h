/* SPDX-License-Identifier: Apache-2.0 */
/* Program files (docs/program_file.md): `accel compile` writes them, the driver runs them. */
#ifndef ACCEL_PROGRAM_H
#define ACCEL_PROGRAM_H

#include "accel.h"
#include "accel_json.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A program file that was checked, and where its image lies once it is loaded. */
struct accel_program {
    struct accel_json header, tensors, segments, inputs, outputs, states;
    struct accel_json graph; /* of the host's operators: an object with `nodes` and `tensors`; none if there are none */
    const uint8_t *code, *constants, *host; /* sections; `host` is the file of `graph` and of the arrays that it names */
    uint64_t code_bytes, constants_bytes, host_bytes;
    uint64_t code_address, constants_address, memory_bytes; /* in the image */
    uint32_t fingerprint[2];
    bool opened;            /* the file was not refused */
    uint8_t *image;         /* as the processor sees it; null unless the program is loaded */
    uint64_t image_address; /* as the machine sees it, on its bus */
};

/* What crosses the border of a segment. */
struct accel_tensor {
    struct accel_json name, description; /* `description` has type, scale, zero point, ... */
    bool has_address;                    /* if not, only the host has it, and the rest is not set */
    uint64_t address;                    /* in the image */
    uint32_t pixels, channels;           /* int8: height * width, and how many channels each pixel has */
    uint64_t bytes;
};

/* A part of the program that the machine or the host computes. */
struct accel_segment {
    bool host;
    uint32_t first, count; /* instructions, or nodes of `graph` */
    struct accel_json inputs, outputs;
};

/* Computes a segment of the host; anything but ACCEL_OK ends the run with that. */
typedef enum accel_status accel_host(void *context, const struct accel_program *program,
                                     const struct accel_segment *segment);

/* Check a file of `bytes` bytes, which must stay where it is while the program is used. What is refused, here or by
   accel_program_load, can be neither loaded nor run. */
enum accel_status accel_program_open(struct accel_program *program, const void *file, size_t bytes);

/* Make the program's image in `image`, which has room for `bytes` bytes and is `image_address` on the machine's bus. */
enum accel_status accel_program_load(const struct accel *machine, struct accel_program *program, void *image,
                                     size_t bytes, uint64_t image_address);

/* Segment after segment, from the first one. A program without host operators needs no callback. ACCEL_BUSY, before
   anything is computed, while a run goes on: after ACCEL_HUNG call accel_reset, or accel_wait until the segment ends. */
enum accel_status accel_program_run(struct accel *machine, const struct accel_program *program, accel_host *host,
                                    void *context);

/* Cycles that the machine took for the segments of the last accel_program_run, the last of which may have failed. */
uint64_t accel_program_cycles(const struct accel *machine);

/* Between two runs of a stream: each state's output becomes its input. Call accel_program_load before the first. */
bool accel_program_carry(const struct accel_program *program);

/* Segment `index`; false behind the last one. */
bool accel_program_segment(const struct accel_program *program, uint32_t index, struct accel_segment *segment);

/* Tensor `index` of a list of names: of the program's or a segment's inputs or outputs. False behind the last one. */
bool accel_program_tensor(const struct accel_program *program, struct accel_json names, uint32_t index,
                          struct accel_tensor *tensor);

/* A tensor of a loaded program's image from or to pixels in row-major order with all their channels, as models have them. */
void accel_tensor_write(const struct accel *machine, const struct accel_program *program,
                        const struct accel_tensor *tensor, const int8_t *values);
void accel_tensor_read(const struct accel *machine, const struct accel_program *program,
                       const struct accel_tensor *tensor, int8_t *values);

#ifdef __cplusplus
}
#endif

#endif
