/* SPDX-License-Identifier: Apache-2.0 */
/* Bare-metal driver: the registers of one machine. C99 without a library; accel_program.h runs program files. */
#ifndef ACCEL_H
#define ACCEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accel_registers.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a call ends with; accel_status_text has the words. */
enum accel_status {
    ACCEL_OK,
    ACCEL_NO_MACHINE,    /* IDENTITY is another one */
    ACCEL_OTHER_VERSION, /* the register map has another major version */
    ACCEL_OTHER_MACHINE, /* fingerprint or a capability is not the expected one */
    ACCEL_DAMAGED,       /* the program file is none, or damaged */
    ACCEL_OTHER_PROGRAM, /* the program was compiled for another machine */
    ACCEL_NO_ROOM,       /* the image is larger than the memory given, or its address is not aligned */
    ACCEL_NOT_LOADED,    /* the program was not loaded, or its load was refused */
    ACCEL_BUSY,          /* a run still goes on: wait for it, or accel_reset */
    ACCEL_FAILED,        /* the run ended with an error: accel_failure */
    ACCEL_HUNG,          /* nothing was reported within the platform's limit; the run goes on: accel_wait again, or accel_reset */
    ACCEL_HOST           /* the callback for host operators refused */
};

/* How the driver reaches the machine and its memory. A function may be null where its comment says so. */
struct accel_platform {
    /* One register of the machine; `write` takes effect after all earlier writes to memory. */
    uint32_t (*read)(void *context, uint32_t address);
    void (*write)(void *context, uint32_t address, uint32_t value);
    /* Returns when the interrupt handler has called accel_service. Null: no interrupts, the driver polls. */
    void (*wait)(void *context);
    /* What the processor wrote must reach memory; what the machine wrote must reach the processor. Null: coherent. */
    void (*clean)(void *context, const void *data, size_t bytes);
    void (*invalidate)(void *context, void *data, size_t bytes);
    /* Number of waits, or of polls, after which a run counts as hung; 0: none. accel_reset polls in any case. */
    uint32_t limit;
};

/* What a machine must be: machine_NAME.h has its initializer, MACHINE_NAME_INITIALIZER. */
struct accel_machine {
    uint32_t fingerprint[2];
    uint32_t capabilities[ACCEL_CAPABILITIES]; /* registers from ACCEL_REG_ROWS on */
};

/* One machine; the members are the driver's. */
struct accel {
    const struct accel_platform *platform;
    void *context;
    uint64_t image_address;
    uint64_t cycles; /* of the segments of a program */
    volatile uint32_t errors; /* of the run, as far as they are noted */
    volatile bool ended;
};

/* The first error of the last run. */
struct accel_failure {
    uint32_t errors;      /* all of the run, ACCEL_ERROR_... */
    uint32_t first;       /* those raised first, in one cycle */
    const char *unit;     /* what raised it, "none" if no unit did */
    uint32_t instruction; /* its index in the segment that ran */
    uint64_t address;     /* on the bus: of the burst; for fetch, of the instruction; else of the image */
    const char *name;     /* of the lowest bit of `first`, "none" if there is none */
    const char *cause;    /* a sentence about it */
};

/* Take charge of a machine: check that it is one, that it is `expected` (null: any), and reset it. */
enum accel_status accel_init(struct accel *machine, const struct accel_platform *platform, void *context,
                             const struct accel_machine *expected);

/* Stop whatever runs, wait for the buses, and clear done and errors. WATCHDOG stays. */
enum accel_status accel_reset(struct accel *machine);

/* Cycles without any progress after which a run is stopped; 0: never. */
void accel_watchdog(struct accel *machine, uint32_t cycles);

/* Whether a run goes on, also one that is being stopped. */
bool accel_running(const struct accel *machine);

/* Start `count` instructions at `code_address` of the image at `image_address` on the bus. ACCEL_BUSY while a run goes
   on, which stays as it is: the machine would ignore the start. */
enum accel_status accel_start(struct accel *machine, uint64_t image_address, uint32_t code_address, uint32_t count);

/* Note what the machine reports and lower its interrupt: call it in the interrupt handler. True: the run has ended. */
bool accel_service(struct accel *machine);

/* Until the run has ended: ACCEL_OK or ACCEL_FAILED. After ACCEL_HUNG it goes on: wait again, or accel_reset. */
enum accel_status accel_wait(struct accel *machine);

/* Ask for the end of the run; accel_wait then reports ACCEL_FAILED with ACCEL_ERROR_STOPPED. */
void accel_stop(struct accel *machine);

/* What went wrong in the last run. */
struct accel_failure accel_failure(const struct accel *machine);

/* One register: ACCEL_REG_CYCLES, ACCEL_REG_ROWS, stall counters, ... */
uint32_t accel_register(const struct accel *machine, uint32_t address);

const char *accel_status_text(enum accel_status status);

#ifdef __cplusplus
}
#endif

#endif
