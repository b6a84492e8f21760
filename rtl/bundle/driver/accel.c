/* SPDX-License-Identifier: Apache-2.0 */
#include "accel.h"

#define ALL_ERRORS ((1u << ACCEL_ERRORS) - 1u)

struct error_text {
    const char *name, *cause;
};

static const struct error_text error_texts[] = {
#define ERROR_TEXT(name, cause) {name, cause},
    ACCEL_EACH_ERROR(ERROR_TEXT)
#undef ERROR_TEXT
};

static const char *const unit_names[] = {
#define UNIT_NAME(name) name,
    ACCEL_EACH_UNIT(UNIT_NAME)
#undef UNIT_NAME
};

static const char *const status_texts[] = {
    "ok",
    "there is no machine at these registers",
    "the machine's register map has another major version than the driver",
    "the machine is not the expected one",
    "the program file is damaged or none",
    "the program was compiled for another machine",
    "the image does not fit into its memory, or its address is not aligned",
    "the program is not loaded",
    "a run still goes on",
    "the run ended with an error",
    "the machine reported nothing within the limit",
    "the callback for host operators refused",
};

uint32_t accel_register(const struct accel *machine, uint32_t address)
{
    return machine->platform->read(machine->context, address);
}

static void set_register(const struct accel *machine, uint32_t address, uint32_t value)
{
    machine->platform->write(machine->context, address, value);
}

/* The interrupt of done is enabled in every write of CONTROL, or in none. */
static void control(const struct accel *machine, uint32_t bits)
{
    set_register(machine, ACCEL_REG_CONTROL, bits | (machine->platform->wait ? ACCEL_CONTROL_INTERRUPT_ENABLE : 0u));
}

static bool is_expected(const struct accel *machine, const struct accel_machine *expected)
{
    uint32_t i;

    if (accel_register(machine, ACCEL_REG_FINGERPRINT_LO) != expected->fingerprint[0] ||
        accel_register(machine, ACCEL_REG_FINGERPRINT_HI) != expected->fingerprint[1])
        return false;
    for (i = 0; i < ACCEL_CAPABILITIES; ++i)
        if (accel_register(machine, ACCEL_REG_ROWS + 4 * i) != expected->capabilities[i])
            return false;
    return true;
}

enum accel_status accel_init(struct accel *machine, const struct accel_platform *platform, void *context,
                             const struct accel_machine *expected)
{
    machine->platform = platform;
    machine->context = context;
    machine->image_address = 0;
    machine->cycles = 0;
    if (accel_register(machine, ACCEL_REG_IDENTITY) != ACCEL_MAGIC)
        return ACCEL_NO_MACHINE;
    if (accel_register(machine, ACCEL_REG_VERSION) >> 16 != ACCEL_VERSION_MAJOR)
        return ACCEL_OTHER_VERSION;
    if (expected && !is_expected(machine, expected))
        return ACCEL_OTHER_MACHINE;
    return accel_reset(machine);
}

/* Nothing of the last run is left to be reported. */
static void forget(struct accel *machine)
{
    set_register(machine, ACCEL_REG_STATUS, ACCEL_STATUS_DONE);
    set_register(machine, ACCEL_REG_ERROR, ALL_ERRORS);
    machine->errors = 0;
}

/* All errors raise the interrupt, if there is one. */
static void listen(struct accel *machine)
{
    set_register(machine, ACCEL_REG_ERROR_MASK, machine->platform->wait ? ALL_ERRORS : 0u);
}

enum accel_status accel_reset(struct accel *machine)
{
    const uint32_t limit = machine->platform->limit;
    uint32_t polls;

    set_register(machine, ACCEL_REG_ERROR_MASK, 0);
    set_register(machine, ACCEL_REG_CONTROL, ACCEL_CONTROL_STOP);
    for (polls = 0; accel_running(machine); ++polls)
        if (limit && polls >= limit) {
            listen(machine); /* accel_wait may still see its end */
            control(machine, 0);
            return ACCEL_HUNG;
        }
    forget(machine);
    machine->ended = true;
    return ACCEL_OK;
}

void accel_watchdog(struct accel *machine, uint32_t cycles)
{
    set_register(machine, ACCEL_REG_WATCHDOG, cycles);
}

bool accel_running(const struct accel *machine)
{
    return (accel_register(machine, ACCEL_REG_STATUS) & ACCEL_STATUS_RUNNING) != 0;
}

enum accel_status accel_start(struct accel *machine, uint64_t image_address, uint32_t code_address, uint32_t count)
{
    if (accel_running(machine))
        return ACCEL_BUSY;
    forget(machine); /* a run that nobody waited for may have ended just now */
    machine->image_address = image_address;
    machine->ended = false;
    set_register(machine, ACCEL_REG_IMAGE_ADDRESS_LO, (uint32_t)image_address);
    set_register(machine, ACCEL_REG_IMAGE_ADDRESS_HI, (uint32_t)(image_address >> 32));
    set_register(machine, ACCEL_REG_PROGRAM_ADDRESS, code_address);
    set_register(machine, ACCEL_REG_PROGRAM_COUNT, count);
    listen(machine);
    control(machine, ACCEL_CONTROL_START);
    return ACCEL_OK;
}

bool accel_service(struct accel *machine)
{
    /* STATUS first: once it is done, ERROR does not change any more. */
    const bool done = (accel_register(machine, ACCEL_REG_STATUS) & ACCEL_STATUS_DONE) != 0;
    const uint32_t errors = accel_register(machine, ACCEL_REG_ERROR);

    machine->errors |= errors;
    if (errors)
        set_register(machine, ACCEL_REG_ERROR, errors);
    if (done) {
        set_register(machine, ACCEL_REG_STATUS, ACCEL_STATUS_DONE);
        machine->ended = true;
    }
    return done;
}

enum accel_status accel_wait(struct accel *machine)
{
    const struct accel_platform *platform = machine->platform;
    uint32_t waits;

    for (waits = 0; !machine->ended; ++waits) {
        if (platform->limit && waits >= platform->limit)
            return ACCEL_HUNG;
        if (platform->wait)
            platform->wait(machine->context);
        else
            accel_service(machine);
    }
    return machine->errors ? ACCEL_FAILED : ACCEL_OK;
}

void accel_stop(struct accel *machine)
{
    control(machine, ACCEL_CONTROL_STOP);
}

struct accel_failure accel_failure(const struct accel *machine)
{
    const uint32_t first = accel_register(machine, ACCEL_REG_ERROR_FIRST), unit = first >> 16 & 15u;
    struct accel_failure failure = {0, 0, "none", 0, 0, "none", "no error"};
    uint32_t bit;

    failure.errors = machine->errors;
    if (!machine->errors)
        return failure;
    failure.first = first & 0xFFFFu;
    if (unit < sizeof unit_names / sizeof *unit_names)
        failure.unit = unit_names[unit];
    failure.instruction = accel_register(machine, ACCEL_REG_ERROR_INDEX);
    failure.address = machine->image_address + accel_register(machine, ACCEL_REG_ERROR_ADDRESS);
    for (bit = 0; bit < ACCEL_ERRORS; ++bit)
        if (failure.first >> bit & 1u) {
            failure.name = error_texts[bit].name;
            failure.cause = error_texts[bit].cause;
            break;
        }
    return failure;
}

const char *accel_status_text(enum accel_status status)
{
    return (unsigned)status < sizeof status_texts / sizeof *status_texts ? status_texts[status] : "unknown status";
}
