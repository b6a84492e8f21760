/* SPDX-License-Identifier: Apache-2.0 */
/* The driver on a register file in C: prints what it does with a program file, for test_driver.py to compare. */
#include <stdio.h>
#include <string.h>

#include "accel_program.h"

enum { ROOM = 1 << 20, WORDS = 256 };

struct mock {
    uint32_t registers[WORDS];
    /* fail_at: the start that raises an error; busy: a run does not end by itself; stuck: nor by a stop */
    unsigned starts, fail_at, busy, stuck;
    struct accel *machine;
};

static uint8_t file[ROOM], image[ROOM];
static struct mock mock;
static struct accel machine;
static struct accel_program program;

static uint32_t read_register(void *context, uint32_t address)
{
    return ((struct mock *)context)->registers[address / 4];
}

/* A start while a run goes on is ignored, as by the machine. */
static void start(struct mock *mock)
{
    uint32_t *registers = mock->registers;

    printf("start %lu %lu at 0x%lx%08lx\n", (unsigned long)registers[ACCEL_REG_PROGRAM_ADDRESS / 4],
           (unsigned long)registers[ACCEL_REG_PROGRAM_COUNT / 4],
           (unsigned long)registers[ACCEL_REG_IMAGE_ADDRESS_HI / 4],
           (unsigned long)registers[ACCEL_REG_IMAGE_ADDRESS_LO / 4]);
    if (registers[ACCEL_REG_STATUS / 4] & ACCEL_STATUS_RUNNING)
        return;
    registers[ACCEL_REG_STATUS / 4] = mock->busy ? ACCEL_STATUS_RUNNING : ACCEL_STATUS_DONE;
    if (++mock->starts == mock->fail_at) {
        registers[ACCEL_REG_ERROR / 4] = ACCEL_ERROR_BOUNDS;
        registers[ACCEL_REG_ERROR_FIRST / 4] = 2u << 16 | ACCEL_ERROR_BOUNDS;
        registers[ACCEL_REG_ERROR_INDEX / 4] = 7;
        registers[ACCEL_REG_ERROR_ADDRESS / 4] = 64;
    }
}

static void write_register(void *context, uint32_t address, uint32_t value)
{
    struct mock *mock = context;
    uint32_t *target = &mock->registers[address / 4];

    /* An interrupt that waits comes before the write of PROGRAM_COUNT. */
    if (address == ACCEL_REG_PROGRAM_COUNT && mock->machine->platform->wait &&
        mock->registers[ACCEL_REG_STATUS / 4] & ACCEL_STATUS_DONE)
        accel_service(mock->machine);
    if (address == ACCEL_REG_STATUS || address == ACCEL_REG_ERROR)
        *target &= ~value;
    else
        *target = value;
    if (address == ACCEL_REG_CONTROL && value & ACCEL_CONTROL_START)
        start(mock);
    if (address == ACCEL_REG_CONTROL && value & ACCEL_CONTROL_STOP && !mock->stuck)
        mock->registers[ACCEL_REG_STATUS / 4] &= ~ACCEL_STATUS_RUNNING;
}

static void interrupt(void *context)
{
    accel_service(((struct mock *)context)->machine);
}

static void clean(void *context, const void *data, size_t bytes)
{
    (void)context;
    printf("clean %ld %lu\n", (long)((const uint8_t *)data - image), (unsigned long)bytes);
}

static void invalidate(void *context, void *data, size_t bytes)
{
    (void)context;
    printf("invalidate %ld %lu\n", (long)((const uint8_t *)data - image), (unsigned long)bytes);
}

static void print_tensors(const char *what, struct accel_json names)
{
    struct accel_tensor tensor;
    uint32_t i;

    printf(" %s", what);
    for (i = 0; accel_program_tensor(&program, names, i, &tensor); ++i) {
        const uint8_t *end = tensor.name.at + 1;

        while (*end != '"')
            ++end;
        printf(" %.*s", (int)(end - tensor.name.at - 1), (const char *)tensor.name.at + 1);
        if (tensor.has_address)
            printf("@%lu+%lu", (unsigned long)tensor.address, (unsigned long)tensor.bytes);
    }
}

static enum accel_status host(void *context, const struct accel_program *given, const struct accel_segment *segment)
{
    (void)given;
    printf("host %lu %lu", (unsigned long)segment->first, (unsigned long)segment->count);
    print_tensors("in", segment->inputs);
    print_tensors("out", segment->outputs);
    printf("\n");
    return context ? ACCEL_HOST : ACCEL_OK;
}

/* The second output gets 0, 1, ... and becomes the second input, whose values are printed. */
static void carry(void)
{
    static int8_t values[128];
    struct accel_tensor tensor;
    uint32_t i;

    for (i = 0; i < sizeof values; ++i)
        values[i] = (int8_t)i;
    accel_program_tensor(&program, program.outputs, 1, &tensor);
    accel_tensor_write(&machine, &program, &tensor, values);
    printf("carry %d", accel_program_carry(&program));
    accel_program_tensor(&program, program.inputs, 1, &tensor);
    accel_tensor_read(&machine, &program, &tensor, values);
    for (i = 0; i < tensor.bytes; ++i)
        printf(" %d", values[i]);
    printf("\n");
}

static void say(enum accel_status status)
{
    printf("%s\n", accel_status_text(status));
}

/* After a run that did not end within the limit: while it goes on; behind its end; behind an end that nobody waited
   for; after a reset. */
static void run_again(void)
{
    say(accel_program_run(&machine, &program, host, NULL));
    say(accel_start(&machine, 0, 0, 1));
    mock.registers[ACCEL_REG_STATUS / 4] = ACCEL_STATUS_DONE;
    say(accel_wait(&machine));
    accel_start(&machine, 0, 0, 1);
    mock.registers[ACCEL_REG_STATUS / 4] = ACCEL_STATUS_DONE;
    mock.registers[ACCEL_REG_ERROR / 4] = ACCEL_ERROR_BOUNDS;
    say(accel_start(&machine, 0, 0, 1));
    say(accel_wait(&machine));
    say(accel_reset(&machine));
    mock.busy = 0;
    say(accel_start(&machine, 0, 0, 1));
    say(accel_wait(&machine));
}

/* A stop that does not end the run within the limit: its end still raises the interrupt. */
static void reset_stuck(void)
{
    mock.stuck = 1;
    say(accel_reset(&machine));
    printf("listens %d %d\n", mock.registers[ACCEL_REG_ERROR_MASK / 4] != 0,
           (mock.registers[ACCEL_REG_CONTROL / 4] & ACCEL_CONTROL_INTERRUPT_ENABLE) != 0);
    mock.registers[ACCEL_REG_STATUS / 4] = ACCEL_STATUS_DONE;
    say(accel_wait(&machine));
}

/* Loads that are refused, and what follows. */
static void load_again(size_t bytes)
{
    say(accel_program_load(&machine, &program, image, 0, 0));
    say(accel_program_run(&machine, &program, host, NULL));
    printf("carry %d\n", accel_program_carry(&program));
    say(accel_program_open(&program, file, bytes - 1));
    say(accel_program_load(&machine, &program, image, ROOM, 0));
    say(accel_program_run(&machine, &program, host, NULL));
}

/* Digits of the fingerprint, capabilities and a number for the machine's behaviour come from the command line. */
int main(int argc, char **argv)
{
    const bool polls = argc > 4 && strchr(argv[4], 'p'), refuses = argc > 4 && strchr(argv[4], 'h');
    const struct accel_platform platform = {read_register, write_register, polls ? NULL : interrupt, clean, invalidate, 9};
    struct accel_machine expected = {{0, 0}, {0}};
    unsigned long low, high, rows;
    enum accel_status status;
    struct accel_failure failure;
    FILE *stream;
    size_t bytes;

    if (argc != 5 || sscanf(argv[2], "%8lx%8lx", &low, &high) != 2 || sscanf(argv[3], "%lu", &rows) != 1)
        return 2;
    stream = fopen(argv[1], "rb");
    bytes = stream ? fread(file, 1, ROOM, stream) : 0;
    mock.machine = &machine;
    mock.registers[ACCEL_REG_IDENTITY / 4] = strchr(argv[4], 'i') ? 0 : ACCEL_MAGIC;
    mock.registers[ACCEL_REG_VERSION / 4] = (strchr(argv[4], 'v') ? ACCEL_VERSION_MAJOR + 1 : ACCEL_VERSION_MAJOR) << 16;
    mock.registers[ACCEL_REG_FINGERPRINT_LO / 4] = expected.fingerprint[0] = (uint32_t)low;
    mock.registers[ACCEL_REG_FINGERPRINT_HI / 4] = expected.fingerprint[1] = (uint32_t)high;
    mock.registers[ACCEL_REG_ROWS / 4] = expected.capabilities[0] = (uint32_t)rows;
    expected.capabilities[1] = strchr(argv[4], 'c') ? 1 : 0;
    mock.fail_at = strchr(argv[4], 'f') ? 2 : 0;
    mock.busy = strchr(argv[4], 'b') != NULL;
    status = accel_init(&machine, &platform, &mock, &expected);
    if (status == ACCEL_OK)
        status = accel_program_open(&program, file, bytes);
    if (status == ACCEL_OK)
        status = accel_program_load(&machine, &program, image, strchr(argv[4], 's') ? 64 : ROOM,
                                    0x180000000u + (strchr(argv[4], 'a') ? 64 : 0));
    if (status == ACCEL_OK) {
        stream = fopen("image", "wb");
        if (!stream || fwrite(image, 1, (size_t)program.memory_bytes, stream) != program.memory_bytes || fclose(stream))
            return 2;
        status = accel_program_run(&machine, &program, host, refuses ? &mock : NULL);
    }
    say(status);
    if (status == ACCEL_FAILED) {
        failure = accel_failure(&machine);
        printf("%s: instruction %lu of %s at 0x%llx: %s\n", failure.name, (unsigned long)failure.instruction,
               failure.unit, (unsigned long long)failure.address, failure.cause);
    }
    if (strchr(argv[4], 'k'))
        carry();
    if (strchr(argv[4], 'g'))
        run_again();
    if (strchr(argv[4], 'u'))
        reset_stuck();
    if (strchr(argv[4], 'n'))
        load_again(bytes);
    printf("interrupts %lu\n", (unsigned long)(mock.registers[ACCEL_REG_ERROR_MASK / 4] != 0));
    return 0;
}
