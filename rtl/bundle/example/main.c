/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a program file on one sample: int8 values of all inputs, one after the other; outputs in the same way. */
#include <stdio.h>

#include "accel_program.h"
#include "host.h"
#include "machine_@NAME@.h"
#include "simulation.h"

static const struct accel_machine expected = @INITIALIZER@;
static struct simulation simulation;
static struct accel machine;
static struct accel_program program;
static struct host host = {.machine = &machine};
static uint8_t file[SIMULATION_BYTES];
static int8_t values[SIMULATION_BYTES];

static size_t read_file(const char *path, void *data, size_t room)
{
    FILE *stream = fopen(path, "rb");
    size_t bytes = stream ? fread(data, 1, room, stream) : 0;

    if (stream)
        fclose(stream);
    return bytes;
}

static bool write_inputs(const char *path)
{
    const size_t bytes = read_file(path, values, sizeof values);
    struct accel_tensor tensor;
    uint64_t used = 0;
    uint32_t i;

    for (i = 0; accel_program_tensor(&program, program.inputs, i, &tensor); ++i) {
        if (!tensor.has_address || tensor.bytes > bytes - used)
            return false;
        accel_tensor_write(&machine, &program, &tensor, values + used);
        used += tensor.bytes;
    }
    return used == bytes;
}

static bool write_outputs(const char *path)
{
    FILE *stream = fopen(path, "wb");
    struct accel_tensor tensor;
    bool good = stream != NULL;
    uint32_t i;

    for (i = 0; good && accel_program_tensor(&program, program.outputs, i, &tensor); ++i) {
        const struct host_tensor *kept = host_find(&host, tensor.name);

        if (tensor.has_address) {
            accel_tensor_read(&machine, &program, &tensor, values);
            good = fwrite(values, 1, (size_t)tensor.bytes, stream) == tensor.bytes;
        } else {
            good = kept && fwrite(kept->values, 1, kept->bytes, stream) == kept->bytes;
        }
    }
    return stream && fclose(stream) == 0 && good;
}

/* The characters of a text. */
static void print_text(struct accel_json text)
{
    while (++text.at < text.end && *text.at != '"')
        fputc(*text.at, stderr);
}

static int failed(enum accel_status status)
{
    const struct accel_failure failure = accel_failure(&machine);

    fprintf(stderr, "%s\n", accel_status_text(status));
    if (status == ACCEL_HOST && host.refused.at) {
        print_text(accel_json_member(host.refused, "op"));
        fputc(' ', stderr);
        print_text(accel_json_member(host.refused, "name"));
        fprintf(stderr, ": must be Softmax or Reshape, of int8 tensors with %d values at most\n", HOST_VALUES);
    }
    if (status == ACCEL_FAILED)
        fprintf(stderr, "%s: instruction %lu of %s, address 0x%llx: %s\n", failure.name,
                (unsigned long)failure.instruction, failure.unit, (unsigned long long)failure.address, failure.cause);
    return 1;
}

int main(int argc, char **argv)
{
    enum accel_status status;

    if (argc != 6 || !simulation_open(&simulation, argv[1], argv[2])) {
        fprintf(stderr, "usage: %s REQUESTS RESPONSES PROGRAM INPUT OUTPUT\n", argv[0]);
        return 2;
    }
    simulation.machine = &machine;
    status = accel_init(&machine, &simulation_interrupts, &simulation, &expected);
    if (status == ACCEL_OK)
        status = accel_program_open(&program, file, read_file(argv[3], file, sizeof file));
    if (status == ACCEL_OK)
        status = accel_program_load(&machine, &program, simulation.memory, sizeof simulation.memory, SIMULATION_BASE);
    if (status != ACCEL_OK)
        return failed(status);
    if (!write_inputs(argv[4])) {
        fprintf(stderr, "%s must hold the int8 values of all inputs, which the machine reads\n", argv[4]);
        return 2;
    }
    status = accel_program_run(&machine, &program, host_compute, &host);
    if (status != ACCEL_OK)
        return failed(status);
    printf("%llu cycles\n", (unsigned long long)accel_program_cycles(&machine));
    if (!write_outputs(argv[5])) {
        fprintf(stderr, "%s: the outputs cannot be written\n", argv[5]);
        return 2;
    }
    return 0;
}
