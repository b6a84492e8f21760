// SPDX-License-Identifier: Apache-2.0
// The machine with a memory, for a program on the host computer that speaks through two files (named pipes): it writes
// requests, this writes responses. A request is a letter and two hexadecimal numbers:
//   r ADDRESS 0       read a register; response: its value
//   w ADDRESS VALUE   write a register
//   m OFFSET COUNT    write COUNT bytes, which follow, to the memory
//   d OFFSET COUNT    read COUNT bytes of the memory; response: the bytes, one a line
//   i CYCLES 0        wait for the interrupt; response: 1, or 0 if it did not come within CYCLES
// The end of the requests ends the simulation. Plus-arguments: +requests=FILE, +responses=FILE.
`timescale 1ns / 1ns
module accelerator_testbench;
  localparam BUS_BYTES = @BUS_BYTES@;
  localparam REGISTER_BITS = @REGISTER_BITS@;
  localparam READ_LATENCY = @READ_LATENCY@;
  localparam WRITE_LATENCY = @WRITE_LATENCY@;
  localparam [63:0] BASE = 64'h0000_0001_8000_0000;
  localparam MEMORY_BYTES = 1 << 22;

  reg clk = 0, rst = 1;
  always #5 clk = !clk;

  reg [REGISTER_BITS-1:0] awaddr = 0, araddr = 0;
  reg [31:0] wdata = 0;
  reg awvalid = 0, wvalid = 0, arvalid = 0;
  wire awready, wready, bvalid, arready, rvalid, irq;
  wire [31:0] rdata;

  wire fetch_arvalid, fetch_arready, fetch_rvalid, fetch_rready, fetch_rlast;
  wire load_arvalid, load_arready, load_rvalid, load_rready, load_rlast;
  wire store_awvalid, store_awready, store_wvalid, store_wready, store_wlast, store_bvalid, store_bready;
  wire [63:0] fetch_araddr, load_araddr, store_awaddr;
  wire [7:0] fetch_arlen, load_arlen;
  wire [8*BUS_BYTES-1:0] fetch_rdata, load_rdata, store_wdata;
  wire [BUS_BYTES-1:0] store_wstrb;
  wire [1:0] fetch_rresp, load_rresp, store_bresp;

  accelerator machine (
    .clk(clk), .rst(rst), .irq(irq),
    .fetch_arvalid(fetch_arvalid), .fetch_arready(fetch_arready), .fetch_araddr(fetch_araddr),
    .fetch_arlen(fetch_arlen), .fetch_arid(), .fetch_arsize(), .fetch_arburst(), .fetch_arlock(), .fetch_arcache(),
    .fetch_arprot(), .fetch_rvalid(fetch_rvalid), .fetch_rready(fetch_rready), .fetch_rdata(fetch_rdata),
    .fetch_rresp(fetch_rresp), .fetch_rlast(fetch_rlast), .fetch_rid(1'b0),
    .load_arvalid(load_arvalid), .load_arready(load_arready), .load_araddr(load_araddr), .load_arlen(load_arlen),
    .load_arid(), .load_arsize(), .load_arburst(), .load_arlock(), .load_arcache(), .load_arprot(),
    .load_rvalid(load_rvalid), .load_rready(load_rready), .load_rdata(load_rdata), .load_rresp(load_rresp),
    .load_rlast(load_rlast), .load_rid(1'b0),
    .store_awvalid(store_awvalid), .store_awready(store_awready), .store_awaddr(store_awaddr), .store_awlen(),
    .store_awid(), .store_awsize(), .store_awburst(), .store_awlock(), .store_awcache(), .store_awprot(),
    .store_wvalid(store_wvalid), .store_wready(store_wready), .store_wdata(store_wdata), .store_wstrb(store_wstrb),
    .store_wlast(store_wlast), .store_bvalid(store_bvalid), .store_bready(store_bready), .store_bresp(store_bresp),
    .store_bid(1'b0),
    .control_awaddr(awaddr), .control_awprot(3'b000), .control_awvalid(awvalid), .control_awready(awready),
    .control_wdata(wdata), .control_wstrb(4'b1111), .control_wvalid(wvalid), .control_wready(wready),
    .control_bvalid(bvalid), .control_bresp(), .control_bready(1'b1),
    .control_araddr(araddr), .control_arprot(3'b000), .control_arvalid(arvalid), .control_arready(arready),
    .control_rdata(rdata), .control_rresp(), .control_rvalid(rvalid), .control_rready(1'b1)
  );

  accelerator_axi_memory #(
    .BUS_BYTES(BUS_BYTES), .WORDS(MEMORY_BYTES / BUS_BYTES), .BASE(BASE), .READ_LATENCY(READ_LATENCY),
    .WRITE_LATENCY(WRITE_LATENCY)
  ) memory (
    .clk(clk), .rst(rst),
    .fetch_arvalid(fetch_arvalid), .fetch_arready(fetch_arready), .fetch_araddr(fetch_araddr),
    .fetch_arlen(fetch_arlen), .fetch_rvalid(fetch_rvalid), .fetch_rready(fetch_rready), .fetch_rdata(fetch_rdata),
    .fetch_rresp(fetch_rresp), .fetch_rlast(fetch_rlast),
    .load_arvalid(load_arvalid), .load_arready(load_arready), .load_araddr(load_araddr), .load_arlen(load_arlen),
    .load_rvalid(load_rvalid), .load_rready(load_rready), .load_rdata(load_rdata), .load_rresp(load_rresp),
    .load_rlast(load_rlast),
    .store_awvalid(store_awvalid), .store_awready(store_awready), .store_awaddr(store_awaddr),
    .store_wvalid(store_wvalid), .store_wready(store_wready), .store_wdata(store_wdata), .store_wstrb(store_wstrb),
    .store_wlast(store_wlast), .store_bvalid(store_bvalid), .store_bready(store_bready), .store_bresp(store_bresp)
  );

  // All outputs of the machine to this bus come from registers: what they are at a falling edge, they are at the next
  // rising one.
  task write_register(input [31:0] address, input [31:0] value);
    reg address_taken, data_taken;
    begin
      @(negedge clk);
      awaddr = address[REGISTER_BITS-1:0];
      wdata = value;
      awvalid = 1;
      wvalid = 1;
      while (awvalid || wvalid) begin
        address_taken = awready;
        data_taken = wready;
        @(negedge clk);
        if (address_taken) awvalid = 0;
        if (data_taken) wvalid = 0;
      end
      while (!bvalid) @(negedge clk);
    end
  endtask

  task read_register(input [31:0] address, output [31:0] value);
    reg taken;
    begin
      @(negedge clk);
      araddr = address[REGISTER_BITS-1:0];
      arvalid = 1;
      while (arvalid) begin
        taken = arready;
        @(negedge clk);
        if (taken) arvalid = 0;
      end
      while (!rvalid) @(negedge clk);
      value = rdata;
    end
  endtask

  reg [8*256-1:0] request_file, response_file;
  reg [7:0] command, byte_value;
  reg [31:0] first, second, value, i;
  integer requests, responses, fields;

  task serve;
    begin
      case (command)
        "r": begin
          read_register(first, value);
          $fwrite(responses, "%h\n", value);
        end
        "w": begin
          write_register(first, second);
        end
        "m": begin
          for (i = first; i < first + second; i = i + 1) begin
            fields = $fscanf(requests, "%h", byte_value);
            memory.words[i / BUS_BYTES][8 * (i % BUS_BYTES) +: 8] = byte_value;
          end
        end
        "d": begin
          for (i = first; i < first + second; i = i + 1) begin
            byte_value = memory.words[i / BUS_BYTES][8 * (i % BUS_BYTES) +: 8];
            $fwrite(responses, "%h\n", byte_value);
          end
        end
        "i": begin
          while (!irq && first != 0) begin
            @(negedge clk);
            first = first - 1;
          end
          $fwrite(responses, "%h\n", irq);
        end
        default: begin
          $display("unknown request %c", command);
          $finish;
        end
      endcase
      $fflush(responses);
    end
  endtask

  initial begin
    if (!$value$plusargs("requests=%s", request_file)) request_file = "requests";
    if (!$value$plusargs("responses=%s", response_file)) response_file = "responses";
    requests = $fopen(request_file, "r");
    responses = $fopen(response_file, "w");
    repeat (3) @(negedge clk);
    rst = 0;
    fields = $fscanf(requests, " %c %h %h", command, first, second);
    while (fields == 3) begin
      serve;
      fields = $fscanf(requests, " %c %h %h", command, first, second);
    end
    $finish;
  end
endmodule
