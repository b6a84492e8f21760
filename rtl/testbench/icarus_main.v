// Runs one program on the machine in an event-driven simulator, with the external memory of docs/timing.md.
//
// Files in the working folder: memory.hex (in), memory_out.hex, events.txt (out). Macros: BUS_BYTES, MEMORY_BYTES,
// IMAGE_ADDRESS, PROGRAM_ADDRESS, PROGRAM_COUNT, READ_LATENCY, WRITE_LATENCY, MAX_CYCLES, STALLS_SEED (0: no stalls),
// UNITS, REGISTERS, REGISTER_*, REGISTER_BITS, BURST_BOUNDARY_BYTES, CONTROL_RUN.
`timescale 1ns / 1ns
module testbench;
  localparam BEAT = 8 * `BUS_BYTES;
  localparam SLOTS = 512;  // more than any number of open bursts or early data beats

  reg clk, rst;
  reg [7:0] memory [0:`MEMORY_BYTES-1];
  wire [63:0] image = `IMAGE_ADDRESS;  // of memory[0] on the bus
  integer now, cycles, events, unit, i;
  reg [31:0] seed;

  // Read buses: 0 fetch, 1 load. Bursts wait in circular buffers.
  wire [1:0] arvalid, rready;
  wire [63:0] araddr [0:1];
  wire [7:0] arlen [0:1];
  reg [1:0] arready, rvalid, rlast, offered;
  reg [BEAT-1:0] rdata [0:1];
  integer burst_address [0:2*SLOTS-1], burst_beats [0:2*SLOTS-1], burst_ready [0:2*SLOTS-1];
  integer head [0:1], tail [0:1], next [0:1];

  // Write bus.
  wire awvalid, wvalid, wlast, bready;
  wire [63:0] awaddr;
  wire [7:0] awlen;
  wire [BEAT-1:0] wdata;
  wire [`BUS_BYTES-1:0] wstrb;
  reg awready, wready, bvalid, response_offered;
  integer write_address [0:SLOTS-1], write_beats [0:SLOTS-1], write_head, write_tail;
  reg [BEAT-1:0] beat_data [0:SLOTS-1];
  reg [`BUS_BYTES-1:0] beat_strobe [0:SLOTS-1];
  integer beat_head, beat_tail;
  integer response_ready [0:SLOTS-1], response_head, response_tail;

  // Registers.
  reg [`REGISTER_BITS-1:0] awaddr_c, araddr_c;
  reg awvalid_c, wvalid_c, arvalid_c, rready_c, written;
  reg [31:0] wdata_c;
  wire awready_c, rvalid_c;
  wire [31:0] rdata_c;

  wire irq, running;
  wire [`UNITS-1:0] issue, complete;
  wire [31:0] protocol;

  accelerator dut (
    .clk(clk), .rst(rst), .irq(irq), .running(running), .issue(issue), .complete(complete), .protocol(protocol),
    .fetch_arvalid(arvalid[0]), .fetch_arready(arready[0]), .fetch_araddr(araddr[0]), .fetch_arlen(arlen[0]),
    .fetch_rvalid(rvalid[0]), .fetch_rready(rready[0]), .fetch_rdata(rdata[0]), .fetch_rlast(rlast[0]),
    .fetch_rresp(2'b00), .fetch_rid(1'b0),
    .load_arvalid(arvalid[1]), .load_arready(arready[1]), .load_araddr(araddr[1]), .load_arlen(arlen[1]),
    .load_rvalid(rvalid[1]), .load_rready(rready[1]), .load_rdata(rdata[1]), .load_rlast(rlast[1]),
    .load_rresp(2'b00), .load_rid(1'b0),
    .store_awvalid(awvalid), .store_awready(awready), .store_awaddr(awaddr), .store_awlen(awlen),
    .store_wvalid(wvalid), .store_wready(wready), .store_wdata(wdata), .store_wstrb(wstrb), .store_wlast(wlast),
    .store_bvalid(bvalid), .store_bready(bready), .store_bresp(2'b00), .store_bid(1'b0),
    .control_awaddr(awaddr_c), .control_awprot(3'b000), .control_awvalid(awvalid_c), .control_awready(awready_c),
    .control_wdata(wdata_c), .control_wstrb(4'b1111), .control_wvalid(wvalid_c), .control_wready(),
    .control_bvalid(), .control_bresp(), .control_bready(1'b1),
    .control_araddr(araddr_c), .control_arprot(3'b000), .control_arvalid(arvalid_c), .control_arready(),
    .control_rdata(rdata_c), .control_rresp(), .control_rvalid(rvalid_c), .control_rready(rready_c)
  );

  function stalled(input dummy);
    stalled = `STALLS_SEED != 0 && $random(seed) < 0;
  endfunction

  task stop(input [8*16-1:0] why, input integer address);
    begin
      $fwrite(events, "%0s %0d\n", why, address);
      $fclose(events);
      $finish;
    end
  endtask

  task check_burst(input [63:0] address, input integer beats);
    begin
      if (address % `BUS_BYTES != 0
          || address / `BURST_BOUNDARY_BYTES != (address + beats * `BUS_BYTES - 1) / `BURST_BOUNDARY_BYTES)
        stop("protocol", address);
      if (address + beats * `BUS_BYTES > `MEMORY_BYTES) stop("outside", address);
    end
  endtask

  task drive_read(input integer bus);
    begin
      arready[bus] = !stalled(0);
      if (head[bus] != tail[bus] && now >= next[bus] && !offered[bus]) offered[bus] = !stalled(0);
      rvalid[bus] = offered[bus];
      if (offered[bus]) begin
        for (i = 0; i < `BUS_BYTES; i = i + 1)
          rdata[bus][8*i +: 8] = memory[burst_address[bus*SLOTS + head[bus]] + i];
        rlast[bus] = burst_beats[bus*SLOTS + head[bus]] == 1;
      end
    end
  endtask

  task sample_read(input integer bus);
    integer slot;
    begin
      if (rvalid[bus] && rready[bus]) begin
        offered[bus] = 0;
        next[bus] = now + 1;
        slot = bus * SLOTS + head[bus];
        burst_address[slot] = burst_address[slot] + `BUS_BYTES;
        burst_beats[slot] = burst_beats[slot] - 1;
        if (burst_beats[slot] == 0) begin
          head[bus] = (head[bus] + 1) % SLOTS;
          slot = bus * SLOTS + head[bus];
          if (head[bus] != tail[bus] && burst_ready[slot] > next[bus]) next[bus] = burst_ready[slot];
        end
      end
      if (arvalid[bus] && arready[bus]) begin
        check_burst(araddr[bus] - image, arlen[bus] + 1);
        slot = bus * SLOTS + tail[bus];
        burst_address[slot] = araddr[bus] - image;
        burst_beats[slot] = arlen[bus] + 1;
        burst_ready[slot] = now + `READ_LATENCY;
        if (head[bus] == tail[bus]) next[bus] = burst_ready[slot];
        tail[bus] = (tail[bus] + 1) % SLOTS;
      end
    end
  endtask

  // With stalls, an address is accepted only after data were offered: AXI allows a subordinate to wait for them.
  task drive_write;
    begin
      awready = (`STALLS_SEED == 0 || wvalid || beat_head != beat_tail) && !stalled(0);
      wready = !stalled(0);
      if (response_head != response_tail && now >= response_ready[response_head] && !response_offered)
        response_offered = !stalled(0);
      bvalid = response_offered;
    end
  endtask

  task sample_write;
    begin
      if (bvalid && bready) begin
        response_offered = 0;
        response_head = (response_head + 1) % SLOTS;
      end
      if (awvalid && awready) begin
        check_burst(awaddr - image, awlen + 1);
        write_address[write_tail] = awaddr - image;
        write_beats[write_tail] = awlen + 1;
        write_tail = (write_tail + 1) % SLOTS;
      end
      if (wvalid && wready) begin
        beat_data[beat_tail] = wdata;
        beat_strobe[beat_tail] = wstrb;
        beat_tail = (beat_tail + 1) % SLOTS;
      end
      while (beat_head != beat_tail && write_head != write_tail) begin
        for (i = 0; i < `BUS_BYTES; i = i + 1)
          if (beat_strobe[beat_head][i]) memory[write_address[write_head] + i] = beat_data[beat_head][8*i +: 8];
        beat_head = (beat_head + 1) % SLOTS;
        write_address[write_head] = write_address[write_head] + `BUS_BYTES;
        write_beats[write_head] = write_beats[write_head] - 1;
        if (write_beats[write_head] == 0) begin
          write_head = (write_head + 1) % SLOTS;
          response_ready[response_tail] = now + `WRITE_LATENCY;
          response_tail = (response_tail + 1) % SLOTS;
        end
      end
    end
  endtask

  // Inputs, settled outputs, what they mean, rising edge.
  task cycle;
    begin
      clk = 0;
      drive_read(0);
      drive_read(1);
      drive_write;
      #1;
      written = awvalid_c && awready_c;
      if (protocol != 0 && !rst) stop("monitor", protocol);
      if (running) begin
        for (unit = 0; unit < `UNITS; unit = unit + 1) begin
          if (issue[unit]) $fwrite(events, "issue %0d %0d\n", unit, cycles);
          if (complete[unit]) $fwrite(events, "complete %0d %0d\n", unit, cycles);
        end
        cycles = cycles + 1;
      end
      sample_read(0);
      sample_read(1);
      sample_write;
      clk = 1;
      #1;
      now = now + 1;
    end
  endtask

  task write_register(input [31:0] address, input [31:0] data);
    begin
      awaddr_c = address;
      wdata_c = data;
      awvalid_c = 1;
      wvalid_c = 1;
      cycle;
      while (!written) cycle;
      awvalid_c = 0;
      wvalid_c = 0;
    end
  endtask

  task read_register(input [31:0] address);
    begin
      araddr_c = address;
      arvalid_c = 1;
      rready_c = 0;
      while (!rvalid_c) cycle;
      arvalid_c = 0;
      rready_c = 1;
      $fwrite(events, "register %0d\n", rdata_c);
      cycle;
      rready_c = 0;
    end
  endtask

  integer register;
  initial begin
    clk = 0; rst = 1; now = 0; cycles = 0; seed = `STALLS_SEED; rlast = 0; offered = 0; response_offered = 0;
    head[0] = 0; head[1] = 0; tail[0] = 0; tail[1] = 0; next[0] = 0; next[1] = 0;
    write_head = 0; write_tail = 0; beat_head = 0; beat_tail = 0; response_head = 0; response_tail = 0;
    awaddr_c = 0; araddr_c = 0; wdata_c = 0; awvalid_c = 0; wvalid_c = 0; arvalid_c = 0; rready_c = 0;
    $readmemh("memory.hex", memory);
    events = $fopen("events.txt", "w");
    repeat (3) cycle;
    rst = 0;
    write_register(`REGISTER_IMAGE_ADDRESS_LO, image[31:0]);
    write_register(`REGISTER_IMAGE_ADDRESS_HI, image[63:32]);
    write_register(`REGISTER_PROGRAM_ADDRESS, `PROGRAM_ADDRESS);
    write_register(`REGISTER_PROGRAM_COUNT, `PROGRAM_COUNT);
    write_register(`REGISTER_CONTROL, `CONTROL_RUN);
    while (!irq) begin
      if (cycles >= `MAX_CYCLES) stop("watchdog", 0);
      cycle;
    end
    for (register = 0; register < `REGISTERS; register = register + 1) read_register(4 * register);
    $writememh("memory_out.hex", memory);
    stop("finished", cycles);
  end
endmodule
