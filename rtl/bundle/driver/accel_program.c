/* SPDX-License-Identifier: Apache-2.0 */
#include "accel_program.h"

#include "accel_sha256.h"

enum { VERSION_AT = 8, LENGTHS_AT = 12, SECTIONS = 4, DIGEST_AT = 44, SECTIONS_AT = 76 };
enum { ZIP_SIZE_AT = 18, ZIP_NAME_AT = 26, ZIP_EXTRA_AT = 28, ZIP_HEAD = 30 }; /* of a member */

static uint64_t little_endian(const uint8_t *bytes, unsigned count)
{
    uint64_t value = 0;

    while (count--)
        value = value << 8 | bytes[count];
    return value;
}

static bool same(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    while (bytes--)
        if (a[bytes] != b[bytes])
            return false;
    return true;
}

static void copy(uint8_t *target, const uint8_t *source, uint64_t bytes)
{
    while (bytes--)
        *target++ = *source++;
}

/* The section lengths, if file and checksum are whole. */
static bool sections(const uint8_t *file, size_t bytes, uint64_t lengths[SECTIONS])
{
    struct accel_sha256 sha;
    uint8_t digest[32];
    uint64_t left;
    unsigned i;

    if (bytes < SECTIONS_AT || !same(file, (const uint8_t *)ACCEL_FILE_MAGIC, VERSION_AT) ||
        little_endian(file + VERSION_AT, 4) != ACCEL_FILE_VERSION)
        return false;
    left = bytes - SECTIONS_AT;
    for (i = 0; i < SECTIONS; ++i) {
        lengths[i] = little_endian(file + LENGTHS_AT + 8 * i, 8);
        if (lengths[i] > left)
            return false;
        left -= lengths[i];
    }
    accel_sha256_begin(&sha);
    accel_sha256_add(&sha, file + VERSION_AT, DIGEST_AT - VERSION_AT);
    accel_sha256_add(&sha, file + SECTIONS_AT, bytes - SECTIONS_AT);
    accel_sha256_end(&sha, digest);
    return left == 0 && same(digest, file + DIGEST_AT, sizeof digest);
}

/* The first 64 bits of the fingerprint, which is a text of hexadecimal digits. */
static bool read_fingerprint(struct accel_program *program)
{
    const struct accel_json text = accel_json_member(program->header, "fingerprint");
    unsigned i;

    if (!text.at || text.end - text.at < 17)
        return false;
    program->fingerprint[0] = program->fingerprint[1] = 0;
    for (i = 0; i < 16; ++i) {
        const uint8_t digit = text.at[1 + i];
        const bool letter = digit >= 'a' && digit <= 'f';

        if (!letter && (digit < '0' || digit > '9'))
            return false;
        program->fingerprint[i / 8] = program->fingerprint[i / 8] << 4 | (uint32_t)(letter ? digit - 'a' + 10 : digit - '0');
    }
    return true;
}

/* The first member of the host graph's file, a zip without compression; none if there is no such file. */
static struct accel_json read_graph(const uint8_t *file, uint64_t bytes)
{
    struct accel_json graph = {NULL, NULL};
    uint64_t head, size;

    if (bytes < ZIP_HEAD || !same(file, (const uint8_t *)"PK\3\4", 4))
        return graph;
    size = little_endian(file + ZIP_SIZE_AT, 4);
    head = ZIP_HEAD + little_endian(file + ZIP_NAME_AT, 2) + little_endian(file + ZIP_EXTRA_AT, 2);
    if (head <= bytes && size <= bytes - head) {
        graph.at = file + head;
        graph.end = graph.at + size;
    }
    return graph;
}

static bool inside(const struct accel_program *program, uint64_t address, uint64_t bytes)
{
    return address <= program->memory_bytes && bytes <= program->memory_bytes - address;
}

/* What the file says about itself, as far as the driver needs it. */
static bool parse(struct accel_program *program, const uint8_t *data, size_t bytes)
{
    uint64_t lengths[SECTIONS];

    if (!sections(data, bytes, lengths))
        return false;
    program->header.at = data + SECTIONS_AT;
    program->header.end = program->code = program->header.at + lengths[0];
    program->code_bytes = lengths[1];
    program->constants = program->code + lengths[1];
    program->constants_bytes = lengths[2];
    program->host = program->constants + lengths[2];
    program->host_bytes = lengths[3];
    program->graph = read_graph(program->host, program->host_bytes);
    program->tensors = accel_json_member(program->header, "tensors");
    program->segments = accel_json_member(program->header, "segments");
    program->inputs = accel_json_member(program->header, "inputs");
    program->outputs = accel_json_member(program->header, "outputs");
    program->states = accel_json_member(program->header, "states");
    return read_fingerprint(program) &&
           accel_json_number(accel_json_member(program->header, "code_address"), &program->code_address) &&
           accel_json_number(accel_json_member(program->header, "constants_address"), &program->constants_address) &&
           accel_json_number(accel_json_member(program->header, "memory_bytes"), &program->memory_bytes) &&
           inside(program, program->code_address, program->code_bytes) &&
           inside(program, program->constants_address, program->constants_bytes);
}

/* Tensor `name` of the program. */
static bool find(const struct accel_program *program, struct accel_json name, struct accel_tensor *tensor)
{
    uint32_t index;

    for (index = 0; name.at; ++index) {
        const struct accel_json found = accel_json_element(program->tensors, index);
        const struct accel_json shape = accel_json_member(found, "shape");
        uint32_t extent, i;

        if (!found.at)
            return false;
        if (!accel_json_equal(accel_json_member(found, "name"), name))
            continue;
        tensor->name = name;
        tensor->description = found;
        tensor->has_address = accel_json_number(accel_json_member(found, "address"), &tensor->address);
        if (!tensor->has_address)
            return true;
        tensor->bytes = tensor->pixels = tensor->channels = 1;
        for (i = 0; accel_json_word(accel_json_element(shape, i), &extent); ++i) {
            if (extent == 0 || tensor->bytes > UINT32_MAX / extent)
                return false;
            tensor->pixels *= tensor->channels;
            tensor->channels = extent;
            tensor->bytes *= extent;
        }
        return inside(program, tensor->address, tensor->bytes);
    }
    return false;
}

bool accel_program_tensor(const struct accel_program *program, struct accel_json names, uint32_t index,
                          struct accel_tensor *tensor)
{
    return find(program, accel_json_element(names, index), tensor);
}

bool accel_program_segment(const struct accel_program *program, uint32_t index, struct accel_segment *segment)
{
    const struct accel_json found = accel_json_element(program->segments, index);

    segment->host = accel_json_is(accel_json_member(found, "unit"), "\"host\"");
    segment->inputs = accel_json_member(found, "inputs");
    segment->outputs = accel_json_member(found, "outputs");
    return accel_json_word(accel_json_member(found, "first"), &segment->first) &&
           accel_json_word(accel_json_member(found, "count"), &segment->count);
}

/* Whether all tensors lie in the image, and all segments of the machine in the code. */
static bool whole(const struct accel_program *program)
{
    const uint64_t instructions = program->code_bytes / ACCEL_INSTRUCTION_BYTES;
    struct accel_json found;
    struct accel_tensor tensor;
    struct accel_segment segment;
    uint32_t index;

    if (program->memory_bytes > (uint64_t)1 << 32 || program->code_address % ACCEL_INSTRUCTION_BYTES)
        return false;
    for (index = 0; (found = accel_json_element(program->tensors, index)).at; ++index)
        if (!find(program, accel_json_member(found, "name"), &tensor))
            return false;
    for (index = 0; accel_json_element(program->segments, index).at; ++index)
        if (!accel_program_segment(program, index, &segment) ||
            (!segment.host && (uint64_t)segment.first + segment.count > instructions))
            return false;
    return index > 0;
}

enum accel_status accel_program_open(struct accel_program *program, const void *file, size_t bytes)
{
    program->image = NULL;
    program->image_address = 0;
    program->opened = parse(program, file, bytes) && whole(program);
    return program->opened ? ACCEL_OK : ACCEL_DAMAGED;
}

/* The input of each state gets its initial value. */
static bool begin_states(const struct accel_program *program)
{
    uint32_t index;

    for (index = 0;; ++index) {
        const struct accel_json state = accel_json_element(program->states, index);
        const struct accel_json initial = accel_json_member(state, "initial");
        const bool negative = accel_json_is(initial, "-");
        struct accel_json digits = initial;
        struct accel_tensor input;
        uint32_t magnitude;
        uint64_t i;

        if (!state.at)
            return true;
        digits.at += negative;
        if (!accel_json_word(digits, &magnitude) || !find(program, accel_json_member(state, "input"), &input))
            return false;
        for (i = 0; input.has_address && i < input.bytes; ++i)
            program->image[input.address + i] = (uint8_t)(negative ? 0u - magnitude : magnitude);
    }
}

enum accel_status accel_program_load(const struct accel *machine, struct accel_program *program, void *image,
                                     size_t bytes, uint64_t image_address)
{
    uint64_t i;

    program->image = NULL;
    if (!program->opened)
        return ACCEL_DAMAGED;
    if (program->fingerprint[0] != accel_register(machine, ACCEL_REG_FINGERPRINT_LO) ||
        program->fingerprint[1] != accel_register(machine, ACCEL_REG_FINGERPRINT_HI))
        return ACCEL_OTHER_PROGRAM;
    if (program->memory_bytes > bytes || image_address % ACCEL_IMAGE_ALIGNMENT)
        return ACCEL_NO_ROOM;
    program->image = image;
    program->image_address = image_address;
    for (i = 0; i < program->memory_bytes; ++i)
        program->image[i] = 0;
    copy(program->image + program->code_address, program->code, program->code_bytes);
    copy(program->image + program->constants_address, program->constants, program->constants_bytes);
    if (!begin_states(program)) {
        program->image = NULL;
        return ACCEL_DAMAGED;
    }
    if (machine->platform->clean)
        machine->platform->clean(machine->context, image, (size_t)program->memory_bytes);
    return ACCEL_OK;
}

/* What the processor wrote to `names` goes to the machine, or what that wrote comes to the processor. */
static bool exchange(const struct accel *machine, const struct accel_program *program, struct accel_json names,
                     bool to_machine)
{
    const struct accel_platform *platform = machine->platform;
    struct accel_tensor tensor;
    uint32_t index;

    for (index = 0; accel_json_element(names, index).at; ++index) {
        if (!accel_program_tensor(program, names, index, &tensor) || !tensor.has_address)
            return false;
        if (to_machine && platform->clean)
            platform->clean(machine->context, program->image + tensor.address, (size_t)tensor.bytes);
        if (!to_machine && platform->invalidate)
            platform->invalidate(machine->context, program->image + tensor.address, (size_t)tensor.bytes);
    }
    return true;
}

static enum accel_status run_on_machine(struct accel *machine, const struct accel_program *program,
                                        const struct accel_segment *segment)
{
    const uint64_t address = program->code_address + (uint64_t)ACCEL_INSTRUCTION_BYTES * segment->first;
    enum accel_status status;

    if (!exchange(machine, program, segment->inputs, true))
        return ACCEL_DAMAGED;
    status = accel_start(machine, program->image_address, (uint32_t)address, segment->count);
    if (status != ACCEL_OK)
        return status;
    status = accel_wait(machine);
    machine->cycles += accel_register(machine, ACCEL_REG_CYCLES);
    if (status == ACCEL_OK && !exchange(machine, program, segment->outputs, false))
        return ACCEL_DAMAGED;
    return status;
}

enum accel_status accel_program_run(struct accel *machine, const struct accel_program *program, accel_host *host,
                                    void *context)
{
    enum accel_status status = ACCEL_OK;
    struct accel_segment segment;
    uint32_t index;

    if (!program->image)
        return ACCEL_NOT_LOADED;
    if (accel_running(machine))
        return ACCEL_BUSY;
    machine->cycles = 0;
    for (index = 0; status == ACCEL_OK && accel_program_segment(program, index, &segment); ++index) {
        if (!segment.host)
            status = run_on_machine(machine, program, &segment);
        else
            status = host ? host(context, program, &segment) : ACCEL_HOST;
    }
    return status;
}

uint64_t accel_program_cycles(const struct accel *machine)
{
    return machine->cycles;
}

bool accel_program_carry(const struct accel_program *program)
{
    struct accel_tensor input, output;
    uint32_t index;

    if (!program->image)
        return false;
    for (index = 0;; ++index) {
        const struct accel_json state = accel_json_element(program->states, index);

        if (!state.at)
            return true;
        if (!find(program, accel_json_member(state, "input"), &input) ||
            !find(program, accel_json_member(state, "output"), &output) || !input.has_address ||
            !output.has_address || input.bytes != output.bytes)
            return false;
        copy(program->image + input.address, program->image + output.address, output.bytes);
    }
}

/* Where a value lies: channels in chunks of ROWS, of all pixels each (docs/architecture.md, "Tensors in memory"). */
static uint64_t place(const struct accel_tensor *tensor, uint32_t rows, uint32_t pixel, uint32_t channel)
{
    const uint32_t chunk = channel - channel % rows, left = tensor->channels - chunk;

    return tensor->address + (uint64_t)tensor->pixels * chunk + (uint64_t)pixel * (left < rows ? left : rows) +
           (channel - chunk);
}

void accel_tensor_write(const struct accel *machine, const struct accel_program *program,
                        const struct accel_tensor *tensor, const int8_t *values)
{
    const uint32_t rows = accel_register(machine, ACCEL_REG_ROWS);
    uint32_t pixel, channel;

    for (pixel = 0; pixel < tensor->pixels; ++pixel)
        for (channel = 0; channel < tensor->channels; ++channel)
            program->image[place(tensor, rows, pixel, channel)] = (uint8_t)*values++;
}

void accel_tensor_read(const struct accel *machine, const struct accel_program *program,
                       const struct accel_tensor *tensor, int8_t *values)
{
    const uint32_t rows = accel_register(machine, ACCEL_REG_ROWS);
    uint32_t pixel, channel;

    for (pixel = 0; pixel < tensor->pixels; ++pixel)
        for (channel = 0; channel < tensor->channels; ++channel)
            *values++ = (int8_t)program->image[place(tensor, rows, pixel, channel)];
}
