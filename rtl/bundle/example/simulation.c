/* SPDX-License-Identifier: Apache-2.0 */
#include "simulation.h"

#include <stdlib.h>

enum { WAIT_CYCLES = 1000000, LIMIT = 1000 };

static uint32_t answer(struct simulation *simulation)
{
    unsigned value;

    fflush(simulation->requests);
    if (fscanf(simulation->responses, "%x", &value) != 1) {
        fputs("the simulator does not answer\n", stderr);
        exit(3);
    }
    return value;
}

static uint32_t read_register(void *context, uint32_t address)
{
    struct simulation *simulation = context;

    fprintf(simulation->requests, "r %x 0\n", (unsigned)address);
    return answer(simulation);
}

static void write_register(void *context, uint32_t address, uint32_t value)
{
    struct simulation *simulation = context;

    fprintf(simulation->requests, "w %x %x\n", (unsigned)address, (unsigned)value);
    fflush(simulation->requests);
}

/* The interrupt and its handler. */
static void wait_for_interrupt(void *context)
{
    struct simulation *simulation = context;

    fprintf(simulation->requests, "i %x 0\n", (unsigned)WAIT_CYCLES);
    if (answer(simulation))
        accel_service(simulation->machine);
}

static unsigned offset(const struct simulation *simulation, const void *data)
{
    return (unsigned)((const uint8_t *)data - simulation->memory);
}

static void clean(void *context, const void *data, size_t bytes)
{
    struct simulation *simulation = context;
    size_t i;

    fprintf(simulation->requests, "m %x %x\n", offset(simulation, data), (unsigned)bytes);
    for (i = 0; i < bytes; ++i)
        fprintf(simulation->requests, "%x\n", ((const uint8_t *)data)[i]);
    fflush(simulation->requests);
}

static void invalidate(void *context, void *data, size_t bytes)
{
    struct simulation *simulation = context;
    size_t i;

    fprintf(simulation->requests, "d %x %x\n", offset(simulation, data), (unsigned)bytes);
    for (i = 0; i < bytes; ++i)
        ((uint8_t *)data)[i] = (uint8_t)answer(simulation);
}

const struct accel_platform simulation_interrupts = {read_register, write_register, wait_for_interrupt,
                                                     clean, invalidate, LIMIT};
const struct accel_platform simulation_polling = {read_register, write_register, NULL, clean, invalidate, 0};

bool simulation_open(struct simulation *simulation, const char *requests, const char *responses)
{
    simulation->requests = fopen(requests, "w");
    simulation->responses = fopen(responses, "r");
    return simulation->requests && simulation->responses;
}
