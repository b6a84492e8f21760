// Memory with one write port of LANES lanes and one synchronous read port; zero after power-up.
// A word that is being written reads as its old value, or as its new one if TRANSPARENT.
module accelerator_ram #(
  parameter WIDTH = 8,
  parameter DEPTH = 2,
  parameter ADDRESS_BITS = 1,
  parameter LANES = 1,
  parameter TRANSPARENT = 0
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
  reg [WIDTH-1:0] words [0:DEPTH-1];
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
  generate
    if (TRANSPARENT != 0) begin : bypass
      // The new value beside the memory: block RAMs of most parts answer with the old one.
      reg [WIDTH-1:0] written;
      reg [LANES-1:0] fresh;
      wire [WIDTH-1:0] selected;
      genvar i;
      for (i = 0; i < LANES; i = i + 1) begin : lanes
        assign selected[i*LANE_BITS +: LANE_BITS] =
          fresh[i] ? written[i*LANE_BITS +: LANE_BITS] : stored[i*LANE_BITS +: LANE_BITS];
      end
      initial fresh = {LANES{1'b0}};
      always @(posedge clk)
        if (read_en) begin
          fresh <= read_addr == write_addr ? write_en : {LANES{1'b0}};
          written <= write_data;
        end
      assign read_data = selected;
    end else begin : plain
      assign read_data = stored;
    end
  endgenerate
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
