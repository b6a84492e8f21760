// Memory with one write port of LANES lanes and one synchronous read port; zero after power-up.
// A word that is being written reads as its old value here. The machine has no use for it, so that a macro may answer
// anything then (for yosys: no_rw_check).
module accelerator_ram #(
  parameter WIDTH = 8,
  parameter DEPTH = 2,
  parameter ADDRESS_BITS = 1,
  parameter LANES = 1
) (
  input  wire                    clk,
  input  wire                    read_en,
  input  wire [ADDRESS_BITS-1:0] read_addr,
  output wire [WIDTH-1:0]        read_data,
  input  wire [LANES-1:0]        write_en,
  input  wire [ADDRESS_BITS-1:0] write_addr,
  input  wire [WIDTH-1:0]        write_data
);
  localparam LANE_BITS = WIDTH / LANES;
  (* no_rw_check *) reg [WIDTH-1:0] words [0:DEPTH-1];
  reg [WIDTH-1:0] stored;
  integer word, lane;
  initial begin
    stored = {WIDTH{1'b0}};
    for (word = 0; word < DEPTH; word = word + 1) words[word] = {WIDTH{1'b0}};
  end
  always @(posedge clk) begin
    if (read_en) stored <= words[read_addr];
    if (write_en != {LANES{1'b0}})
      for (lane = 0; lane < LANES; lane = lane + 1)
        if (write_en[lane])
          words[write_addr][lane*LANE_BITS +: LANE_BITS] <= write_data[lane*LANE_BITS +: LANE_BITS];
  end
  assign read_data = stored;
endmodule

// Memory with one write port and one asynchronous read port, for queues.
module accelerator_queue_ram #(
  parameter WIDTH = 8,
  parameter DEPTH = 2,
  parameter ADDRESS_BITS = 1
) (
  input  wire                    clk,
  input  wire [ADDRESS_BITS-1:0] read_addr,
  output wire [WIDTH-1:0]        read_data,
  input  wire                    write_en,
  input  wire [ADDRESS_BITS-1:0] write_addr,
  input  wire [WIDTH-1:0]        write_data
);
  reg [WIDTH-1:0] words [0:DEPTH-1];
  assign read_data = words[read_addr];
  always @(posedge clk)
    if (write_en) words[write_addr] <= write_data;
endmodule
