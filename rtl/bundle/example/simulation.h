/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's platform on a simulated machine (sim/testbench.v), reached through two named pipes. */
#ifndef SIMULATION_H
#define SIMULATION_H

#include <stdio.h>

#include "accel.h"

#define SIMULATION_BASE 0x180000000u /* of the memory on the bus; more than 32 bits, to show that they are enough */
#define SIMULATION_BYTES (1u << 22)

/* The memory has two copies, as behind a cache: `memory` is the processor's, the simulator has the machine's. */
struct simulation {
    FILE *requests, *responses;
    struct accel *machine;
    uint8_t memory[SIMULATION_BYTES];
};

/* With interrupts, and without. */
extern const struct accel_platform simulation_interrupts, simulation_polling;

/* Connect to the simulator; false if the pipes cannot be opened. */
bool simulation_open(struct simulation *simulation, const char *requests, const char *responses);

#endif
