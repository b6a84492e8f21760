/* SPDX-License-Identifier: Apache-2.0 */
/* The driver on a simulated machine, through what goes wrong and back to right runs; test_driver_on_machine.py reads
   what it prints. */
#include <stdio.h>

#include "accel_program.h"
#include "machine_npu_small.h"
#include "simulation.h"

static const struct accel_machine expected = MACHINE_NPU_SMALL_INITIALIZER;
static struct simulation simulation;
static struct accel machine;
static struct accel_program program, other;
static uint8_t file[SIMULATION_BYTES], other_file[SIMULATION_BYTES];
static int8_t values[SIMULATION_BYTES];

static size_t read_file(const char *path, void *data)
{
    FILE *stream = fopen(path, "rb");
    const size_t bytes = stream ? fread(data, 1, SIMULATION_BYTES, stream) : 0;

    if (stream)
        fclose(stream);
    return bytes;
}

static void report(const char *what, enum accel_status status)
{
    const struct accel_failure failure = accel_failure(&machine);

    printf("%s: %s", what, accel_status_text(status));
    if (status == ACCEL_FAILED)
        printf(", %s, instruction %lu of %s", failure.name, (unsigned long)failure.instruction, failure.unit);
    printf("\n");
}

/* The first run segment is started; nothing is waited for. */
static void start_segment(void)
{
    struct accel_segment segment;

    accel_program_segment(&program, 0, &segment);
    if (accel_start(&machine, program.image_address, (uint32_t)program.code_address, segment.count) != ACCEL_OK)
        printf("not started\n");
}

/* The program on fresh memory; all outputs, one after the other, are appended to a file. */
static enum accel_status run(FILE *results, const char *input)
{
    struct accel_tensor tensor;
    int8_t *next = values;
    enum accel_status status;
    uint32_t i;

    accel_program_load(&machine, &program, simulation.memory, sizeof simulation.memory, SIMULATION_BASE);
    read_file(input, values);
    for (i = 0; accel_program_tensor(&program, program.inputs, i, &tensor); ++i) {
        accel_tensor_write(&machine, &program, &tensor, next);
        next += tensor.bytes;
    }
    status = accel_program_run(&machine, &program, NULL, NULL);
    for (i = 0; accel_program_tensor(&program, program.outputs, i, &tensor); ++i) {
        accel_tensor_read(&machine, &program, &tensor, values);
        fwrite(values, 1, (size_t)tensor.bytes, results);
    }
    return status;
}

int main(int argc, char **argv)
{
    struct accel_machine wrong = expected;
    struct accel_platform impatient = simulation_polling;
    const uint8_t bit = 1u << 7;
    FILE *results;
    uint8_t *code;

    if (argc != 7 || !simulation_open(&simulation, argv[1], argv[2]))
        return 2;
    simulation.machine = &machine;
    results = fopen(argv[6], "wb");
    ++wrong.capabilities[4];
    report("another machine", accel_init(&machine, &simulation_interrupts, &simulation, &wrong));
    report("this machine", accel_init(&machine, &simulation_interrupts, &simulation, &expected));
    report("another program", accel_program_open(&other, other_file, read_file(argv[4], other_file)));
    report("loaded", accel_program_load(&machine, &other, simulation.memory, sizeof simulation.memory, SIMULATION_BASE));
    report("this program", accel_program_open(&program, file, read_file(argv[3], file)));
    report("interrupts", run(results, argv[5]));

    code = simulation.memory + program.code_address + 3 * ACCEL_INSTRUCTION_BYTES - 1; /* the last byte of instruction 2 */
    *code |= bit;
    simulation_interrupts.clean(&simulation, code, 1);
    start_segment();
    report("corrupted", accel_wait(&machine));
    report("after it", run(results, argv[5]));

    start_segment();
    accel_stop(&machine);
    report("stopped", accel_wait(&machine));
    report("after it", run(results, argv[5]));

    accel_watchdog(&machine, 2);
    start_segment();
    report("watched", accel_wait(&machine));
    accel_watchdog(&machine, ACCEL_WATCHDOG_DEFAULT);

    start_segment();
    report("reset", accel_reset(&machine));
    report("polling", accel_init(&machine, &simulation_polling, &simulation, NULL));
    report("after it", run(results, argv[5]));

    impatient.limit = 1;
    machine.platform = &impatient;
    report("hung", accel_program_run(&machine, &program, NULL, NULL));
    report("too early", accel_program_run(&machine, &program, NULL, NULL));
    machine.platform = &simulation_polling;
    report("waited", accel_wait(&machine));
    report("after it", run(results, argv[5]));
    return fclose(results);
}
