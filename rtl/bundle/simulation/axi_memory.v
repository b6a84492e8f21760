// SPDX-License-Identifier: Apache-2.0
// A memory for simulation, on the three AXI4 buses of the machine: one burst at a time on each, decode errors outside.

// Answers a read bus from words that its parent looks up.
module accelerator_axi_read_port #(
  parameter BUS_BYTES = 8,
  parameter WORDS = 1024,
  parameter [63:0] BASE = 0,
  parameter LATENCY = 8
) (
  input  wire                   clk,
  input  wire                   rst,
  input  wire                   arvalid,
  output wire                   arready,
  input  wire [63:0]            araddr,
  input  wire [7:0]             arlen,
  output reg                    rvalid,
  input  wire                   rready,
  output reg  [8*BUS_BYTES-1:0] rdata,
  output reg  [1:0]             rresp,
  output reg                    rlast,
  output wire [31:0]            index,
  input  wire [8*BUS_BYTES-1:0] word
);
  reg busy;
  reg [63:0] next;  // word of the memory
  reg [7:0] left;
  integer delay;
  wire exists = next < WORDS;
  assign arready = !busy;
  assign index = exists ? next[31:0] : 32'd0;
  always @(posedge clk)
    if (rst) begin
      busy <= 0;
      rvalid <= 0;
    end else begin
      if (rvalid && rready) rvalid <= 0;
      if (arvalid && arready) begin
        busy <= 1;
        next <= (araddr - BASE) / BUS_BYTES;
        left <= arlen;
        delay <= LATENCY;
      end else if (busy && delay != 0) delay <= delay - 1;
      else if (busy && (!rvalid || rready)) begin
        rvalid <= 1;
        rdata <= exists ? word : {8*BUS_BYTES{1'b0}};
        rresp <= exists ? 2'b00 : 2'b11;
        rlast <= left == 0;
        busy <= left != 0;
        next <= next + 1;
        left <= left - 1;
      end
    end
endmodule

module accelerator_axi_memory #(
  parameter BUS_BYTES = 8,
  parameter WORDS = 1024,
  parameter [63:0] BASE = 0,
  parameter LATENCY = 8
) (
  input  wire                   clk,
  input  wire                   rst,
  input  wire                   fetch_arvalid,
  output wire                   fetch_arready,
  input  wire [63:0]            fetch_araddr,
  input  wire [7:0]             fetch_arlen,
  output wire                   fetch_rvalid,
  input  wire                   fetch_rready,
  output wire [8*BUS_BYTES-1:0] fetch_rdata,
  output wire [1:0]             fetch_rresp,
  output wire                   fetch_rlast,
  input  wire                   load_arvalid,
  output wire                   load_arready,
  input  wire [63:0]            load_araddr,
  input  wire [7:0]             load_arlen,
  output wire                   load_rvalid,
  input  wire                   load_rready,
  output wire [8*BUS_BYTES-1:0] load_rdata,
  output wire [1:0]             load_rresp,
  output wire                   load_rlast,
  input  wire                   store_awvalid,
  output wire                   store_awready,
  input  wire [63:0]            store_awaddr,
  input  wire                   store_wvalid,
  output wire                   store_wready,
  input  wire [8*BUS_BYTES-1:0] store_wdata,
  input  wire [BUS_BYTES-1:0]   store_wstrb,
  input  wire                   store_wlast,
  output reg                    store_bvalid,
  input  wire                   store_bready,
  output reg  [1:0]             store_bresp
);
  reg [8*BUS_BYTES-1:0] words [0:WORDS-1];
  wire [31:0] fetch_index, load_index;
  accelerator_axi_read_port #(.BUS_BYTES(BUS_BYTES), .WORDS(WORDS), .BASE(BASE), .LATENCY(LATENCY)) fetch (
    .clk(clk), .rst(rst), .arvalid(fetch_arvalid), .arready(fetch_arready), .araddr(fetch_araddr),
    .arlen(fetch_arlen), .rvalid(fetch_rvalid), .rready(fetch_rready), .rdata(fetch_rdata), .rresp(fetch_rresp),
    .rlast(fetch_rlast), .index(fetch_index), .word(words[fetch_index])
  );
  accelerator_axi_read_port #(.BUS_BYTES(BUS_BYTES), .WORDS(WORDS), .BASE(BASE), .LATENCY(LATENCY)) load (
    .clk(clk), .rst(rst), .arvalid(load_arvalid), .arready(load_arready), .araddr(load_araddr), .arlen(load_arlen),
    .rvalid(load_rvalid), .rready(load_rready), .rdata(load_rdata), .rresp(load_rresp), .rlast(load_rlast),
    .index(load_index), .word(words[load_index])
  );

  reg writing;
  reg [63:0] next;
  integer i;
  assign store_awready = !writing && !store_bvalid;
  assign store_wready = writing;
  always @(posedge clk)
    if (rst) begin
      writing <= 0;
      store_bvalid <= 0;
    end else begin
      if (store_bvalid && store_bready) store_bvalid <= 0;
      if (store_awvalid && store_awready) begin
        writing <= 1;
        next <= (store_awaddr - BASE) / BUS_BYTES;
        store_bresp <= 2'b00;
      end
      if (store_wvalid && store_wready) begin
        if (next >= WORDS) store_bresp <= 2'b11;
        else
          for (i = 0; i < BUS_BYTES; i = i + 1)
            if (store_wstrb[i]) words[next[31:0]][8*i +: 8] <= store_wdata[8*i +: 8];
        next <= next + 1;
        if (store_wlast) begin
          writing <= 0;
          store_bvalid <= 1;
        end
      end
    end
endmodule
