// The processing elements of the array: activations move right, weights in transit and partial sums move down.
module accelerator_pe_grid #(
  parameter ROWS = 1,
  parameter COLS = 1,
  parameter INT4 = 0
) (
  input  wire               clk,
  input  wire               rst,
  input  wire [8*ROWS-1:0]  activations,
  input  wire [ROWS-1:0]    swap,
  input  wire [ROWS-1:0]    capture,
  input  wire [ROWS-1:0]    int4,
  input  wire [8*COLS-1:0]  weights,
  output wire [32*COLS-1:0] psums
);
  // What enters row r from above is at index r, what enters column c from the left at index c of its row.
  wire [8*COLS*(ROWS+1)-1:0]  transit;
  wire [32*COLS*(ROWS+1)-1:0] psum;
  assign transit[8*COLS-1:0] = weights;
  assign psum[32*COLS-1:0] = {32*COLS{1'b0}};
  assign psums = psum[32*COLS*ROWS +: 32*COLS];
  genvar r, c;
  generate
    for (r = 0; r < ROWS; r = r + 1) begin : row
      wire [8*COLS+7:0] activation;
      wire [COLS:0] swaps, captures, nibbles;
      assign activation[7:0] = activations[8*r +: 8];
      assign swaps[0] = swap[r];
      assign captures[0] = capture[r];
      assign nibbles[0] = int4[r];
      for (c = 0; c < COLS; c = c + 1) begin : column
        if (INT4 == 0) begin : whole
          assign nibbles[c+1] = 1'b0;
          accelerator_pe pe (
            .clk(clk), .rst(rst), .left__activation(activation[8*c +: 8]), .right__activation(activation[8*c+8 +: 8]),
            .left__swap(swaps[c]), .right__swap(swaps[c+1]),
            .left__capture(captures[c]), .right__capture(captures[c+1]),
            .above__transit(transit[8*(COLS*r+c) +: 8]), .below__transit(transit[8*(COLS*(r+1)+c) +: 8]),
            .above__psum(psum[32*(COLS*r+c) +: 32]), .below__psum(psum[32*(COLS*(r+1)+c) +: 32])
          );
        end else if (r % 2 == 0) begin : even
          accelerator_pe_even pe (
            .clk(clk), .rst(rst), .left__activation(activation[8*c +: 8]), .right__activation(activation[8*c+8 +: 8]),
            .left__swap(swaps[c]), .right__swap(swaps[c+1]),
            .left__capture(captures[c]), .right__capture(captures[c+1]),
            .left__int4(nibbles[c]), .right__int4(nibbles[c+1]),
            .above__transit(transit[8*(COLS*r+c) +: 8]), .below__transit(transit[8*(COLS*(r+1)+c) +: 8]),
            .above__psum(psum[32*(COLS*r+c) +: 32]), .below__psum(psum[32*(COLS*(r+1)+c) +: 32])
          );
        end else begin : odd
          accelerator_pe_odd pe (
            .clk(clk), .rst(rst), .left__activation(activation[8*c +: 8]), .right__activation(activation[8*c+8 +: 8]),
            .left__swap(swaps[c]), .right__swap(swaps[c+1]),
            .left__capture(captures[c]), .right__capture(captures[c+1]),
            .left__int4(nibbles[c]), .right__int4(nibbles[c+1]),
            .above__transit(transit[8*(COLS*r+c) +: 8]), .below__transit(transit[8*(COLS*(r+1)+c) +: 8]),
            .above__psum(psum[32*(COLS*r+c) +: 32]), .below__psum(psum[32*(COLS*(r+1)+c) +: 32])
          );
        end
      end
    end
  endgenerate
endmodule
