/* Runs the network on every sample of a file: int8 inputs one after the other, outputs in the same way. */
#include <stdio.h>

#include "network.h"

static int8_t input[NETWORK_INPUT_BYTES], output[NETWORK_OUTPUT_BYTES];

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s INPUT OUTPUT (%d bytes in, %d bytes out per sample)\n", argv[0],
                NETWORK_INPUT_BYTES, NETWORK_OUTPUT_BYTES);
        return 2;
    }
    FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
    if (!in || !out) {
        fprintf(stderr, "%s: files must be readable and writable\n", argv[0]);
        return 2;
    }
    size_t read;
    while ((read = fread(input, 1, sizeof input, in)) == sizeof input) {
        network_run(input, output);
        if (fwrite(output, 1, sizeof output, out) != sizeof output) return 1;
    }
    fclose(in);
    if (read) fprintf(stderr, "%s: the last sample must have %d bytes\n", argv[0], NETWORK_INPUT_BYTES);
    return fclose(out) || read ? 1 : 0;
}
