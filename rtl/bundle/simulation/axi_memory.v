// SPDX-License-Identifier: Apache-2.0
// A memory for simulation, on the three AXI4 buses of the machine, with the latencies of its configuration, so that a run
// takes as many cycles as `accel run` says: addresses and data to be written are taken at once; a read's first beat comes
// READ_LATENCY cycles after its address, the others one by one; a write's response WRITE_LATENCY after its last beat.
// Outside of the memory there are decode errors.

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
  output wire                   rvalid,
  input  wire                   rready,
  output wire [8*BUS_BYTES-1:0] rdata,
  output wire [1:0]             rresp,
  output wire                   rlast,
  output wire [31:0]            index,
  input  wire [8*BUS_BYTES-1:0] word
);
  // Bursts that are open, each in a place of its own; the oldest is at `oldest`.
  reg [63:0] first [0:255];  // word of the memory
  reg [7:0] length [0:255];
  reg [63:0] due [0:255];  // cycle of the first beat
  reg [7:0] oldest, newest, beat;
  reg [63:0] now;
  wire [63:0] at = first[oldest] + beat;
  wire exists = at < WORDS;
  assign arready = newest + 8'd1 != oldest;
  assign rvalid = newest != oldest && now >= due[oldest];
  assign rlast = beat == length[oldest];
  assign rresp = exists ? 2'b00 : 2'b11;
  assign rdata = exists ? word : {8*BUS_BYTES{1'b0}};
  assign index = exists ? at[31:0] : 32'd0;
  always @(posedge clk)
    if (rst) begin
      oldest <= 0;
      newest <= 0;
      beat <= 0;
      now <= 0;
    end else begin
      now <= now + 1;
      if (arvalid && arready) begin
        first[newest] <= (araddr - BASE) / BUS_BYTES;
        length[newest] <= arlen;
        due[newest] <= now + LATENCY;
        newest <= newest + 1;
      end
      if (rvalid && rready) begin
        beat <= rlast ? 8'd0 : beat + 8'd1;
        if (rlast) oldest <= oldest + 1;
      end
    end
endmodule

module accelerator_axi_memory #(
  parameter BUS_BYTES = 8,
  parameter WORDS = 1024,
  parameter [63:0] BASE = 0,
  parameter READ_LATENCY = 8,
  parameter WRITE_LATENCY = 8
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
  output wire                   store_bvalid,
  input  wire                   store_bready,
  output wire [1:0]             store_bresp
);
  reg [8*BUS_BYTES-1:0] words [0:WORDS-1];
  wire [31:0] fetch_index, load_index;
  accelerator_axi_read_port #(.BUS_BYTES(BUS_BYTES), .WORDS(WORDS), .BASE(BASE), .LATENCY(READ_LATENCY)) fetch (
    .clk(clk), .rst(rst), .arvalid(fetch_arvalid), .arready(fetch_arready), .araddr(fetch_araddr),
    .arlen(fetch_arlen), .rvalid(fetch_rvalid), .rready(fetch_rready), .rdata(fetch_rdata), .rresp(fetch_rresp),
    .rlast(fetch_rlast), .index(fetch_index), .word(words[fetch_index])
  );
  accelerator_axi_read_port #(.BUS_BYTES(BUS_BYTES), .WORDS(WORDS), .BASE(BASE), .LATENCY(READ_LATENCY)) load (
    .clk(clk), .rst(rst), .arvalid(load_arvalid), .arready(load_arready), .araddr(load_araddr), .arlen(load_arlen),
    .rvalid(load_rvalid), .rready(load_rready), .rdata(load_rdata), .rresp(load_rresp), .rlast(load_rlast),
    .index(load_index), .word(words[load_index])
  );

  // Bursts whose address came, whose last beat came, whose response was taken.
  reg [63:0] first [0:255];
  reg missed [0:255];  // a beat was not inside the memory
  reg [63:0] due [0:255];  // cycle of the response
  reg [7:0] addressed, written, answered;
  reg [7:0] beat;
  reg [63:0] now;
  integer i;
  // A beat may come in the cycle of its address.
  wire waiting = addressed != written;
  wire [63:0] begins = waiting ? first[written] : (store_awaddr - BASE) / BUS_BYTES;
  wire [63:0] at = begins + beat;
  wire exists = at < WORDS;
  assign store_awready = addressed + 8'd1 != answered;
  assign store_wready = waiting || (store_awvalid && store_awready);
  assign store_bvalid = written != answered && now >= due[answered];
  assign store_bresp = missed[answered] ? 2'b11 : 2'b00;
  always @(posedge clk)
    if (rst) begin
      addressed <= 0;
      written <= 0;
      answered <= 0;
      beat <= 0;
      now <= 0;
    end else begin
      now <= now + 1;
      if (store_awvalid && store_awready) begin
        first[addressed] <= (store_awaddr - BASE) / BUS_BYTES;
        addressed <= addressed + 1;
      end
      if (store_wvalid && store_wready) begin
        if (exists)
          for (i = 0; i < BUS_BYTES; i = i + 1)
            if (store_wstrb[i]) words[at[31:0]][8*i +: 8] <= store_wdata[8*i +: 8];
        missed[written] <= !exists || (beat != 0 && missed[written]);
        beat <= store_wlast ? 8'd0 : beat + 8'd1;
        if (store_wlast) begin
          due[written] <= now + WRITE_LATENCY;
          written <= written + 1;
        end
      end
      if (store_bvalid && store_bready) answered <= answered + 1;
    end
endmodule
