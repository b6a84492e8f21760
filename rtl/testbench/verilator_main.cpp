// Runs programs on the Verilated machine, with the external memory of docs/timing.md.
//
// A shared library with a C interface: testbench_create resets the machine, testbench_reset again; for each program follow testbench_start
// and testbench_advance (until it returns something other than RUNNING); testbench_destroy. Between programs
// testbench_memory gives access to the memories on the chip (memories.inc is MEMORY(path) for each), testbench_access to
// the registers, testbench_counters to the counters of counters.inc, to which a run may add: COUNTER(path) for each, if
// any. Macros come from macros.py and verilator.py: BUS_BYTES, BURST_BOUNDARY_BYTES, UNITS, REGISTERS, REGISTER_*,
// CONTROL_RUN, STATUS_DONE, STATUSES, MUTANTS, COVERAGE.
#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>

#include "Vaccelerator.h"
#include "Vaccelerator___024root.h"
#include "verilated.h"
#include "verilated_cov.h"

namespace {

constexpr int SLICE_CYCLES = 1024;
constexpr int RESET_CYCLES = 3;
constexpr auto SLICE_TIME = std::chrono::milliseconds(200);

enum Status : int { STATUSES };

// Mirrors `Job` in verilator.py.
struct Job {
  uint8_t* memory;
  uint64_t memory_bytes;
  uint64_t max_cycles;
  uint64_t stalls_seed;  // 0: the memory of docs/timing.md, otherwise random stalls on every channel
  uint64_t image_address;
  uint64_t memory_base;    // in the image, of memory[0]
  uint32_t program_address;
  uint32_t program_count;
  uint32_t read_latency;
  uint32_t write_latency;
  uint32_t watchdog;        // value of the register
  uint32_t answer_outside;  // 1: accesses outside of memory get a decode error, otherwise they are faults
  uint64_t wrong_beat;      // the beat at this address of the memory is read with a slave error
  uint64_t stop_cycles;     // stop the run in this cycle; 0: never
  uint64_t clear_cycles;    // clear STATUS in this cycle; 0: never
  uint64_t pause_begin, pause_cycles;  // of the run, in which the memory accepts nothing and offers nothing new
  uint64_t mutant;          // value of the input of that name, if MUTANTS
  uint32_t* offsets;  // added to the counters of counters.inc, if not null; then what was added
  uint64_t offset_cycle;  // in which they are added
  int64_t* stamps[2][UNITS];  // issue, complete
  uint64_t capacity[UNITS];
  uint64_t count[2][UNITS];
  uint64_t total_cycles;
  uint64_t fault_address;
  uint32_t registers[REGISTERS];
};

// Mirrors `Access` in verilator.py.
struct Access {
  uint32_t address, data, strobe, hold;
  int32_t apart;
  uint32_t write, response, interrupt;
};

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  bool enabled() const { return state_ != 0; }
  // True with probability one half; never if stalls are off.
  bool stall() { return state_ && next() >> 63; }
  uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1DULL;
  }

 private:
  uint64_t state_;
};

struct Fault {
  Status status;
  uint64_t address;
};

constexpr int OKAY = 0, SLAVE_ERROR = 2, DECODE_ERROR = 3;

bool outside(const Job& job, uint64_t address) { return address >= job.memory_bytes; }

void check_burst(const Job& job, uint64_t address, uint64_t beats) {
  const uint64_t end = address + beats * BUS_BYTES;
  if (address % BUS_BYTES || address / BURST_BOUNDARY_BYTES != (end - 1) / BURST_BOUNDARY_BYTES)
    throw Fault{BUS_PROTOCOL, address};
  if (!job.answer_outside && (end > job.memory_bytes || end < address)) throw Fault{OUTSIDE_MEMORY, address};
}

class ReadChannel {
 public:
  ReadChannel(Job& job, Random& random) : job_(job), random_(random) {}

  template <class Data, class Last>
  void drive(uint64_t now, bool pause, uint8_t& arready, uint8_t& rvalid, Data& rdata, Last& rlast, uint8_t& rresp) {
    arready = !random_.stall() && !pause;
    offered_ = offered_ || (!bursts_.empty() && now >= next_ && !random_.stall() && !pause);
    rvalid = offered_;
    if (!offered_) return;  // what is not valid may be anything
    const Burst& head = bursts_.front();
    const bool missing = outside(job_, head.address);
    if (missing) std::memset(&rdata, 0, BUS_BYTES);
    else std::memcpy(&rdata, job_.memory + head.address, BUS_BYTES);
    rresp = missing ? DECODE_ERROR : head.address == job_.wrong_beat ? SLAVE_ERROR : OKAY;
    rlast = head.beats == 1;
  }

  template <class Data, class Last>
  void noise(uint8_t& rvalid, Data& rdata, Last& rlast, uint8_t& rresp) {
    const uint64_t bits = random_.next();
    std::memset(&rdata, bits & 0xFF, BUS_BYTES);
    rlast = bits >> 8 & 1;
    rresp = bits >> 9 & 3;
    rvalid = bits >> 11 & 1;
  }

  void address(uint64_t now, uint64_t address, uint64_t beats) {
    check_burst(job_, address, beats);
    const Burst burst{address, beats, now + job_.read_latency};
    if (bursts_.empty()) next_ = burst.ready;
    bursts_.push_back(burst);
  }

  bool idle() const { return bursts_.empty(); }

  void forget() {
    bursts_.clear();
    offered_ = false;
  }

  void accepted(uint64_t now) {
    offered_ = false;
    next_ = now + 1;
    Burst& head = bursts_.front();
    head.address += BUS_BYTES;
    if (--head.beats) return;
    bursts_.pop_front();
    if (!bursts_.empty() && bursts_.front().ready > next_) next_ = bursts_.front().ready;
  }

 private:
  struct Burst {
    uint64_t address, beats, ready;
  };
  Job& job_;
  Random& random_;
  std::deque<Burst> bursts_;
  uint64_t next_ = 0;
  bool offered_ = false;
};

class WriteChannel {
 public:
  WriteChannel(Job& job, Random& random) : job_(job), random_(random) {}

  // With stalls, an address is accepted only after data were offered: AXI allows a subordinate to wait for them.
  void drive(uint64_t now, bool pause, bool wvalid, uint8_t& awready, uint8_t& wready, uint8_t& bvalid,
             uint8_t& bresp) {
    awready = (random_.enabled() ? (wvalid || !beats_.empty()) && !random_.stall() : true) && !pause;
    wready = !random_.stall() && !pause;
    offered_ = offered_ || (!responses_.empty() && now >= responses_.front().cycle && !random_.stall() && !pause);
    bvalid = offered_;
    if (offered_) bresp = responses_.front().code;
    else if (random_.enabled()) bresp = random_.next() & 3;
  }

  void address(uint64_t address, uint64_t beats) {
    check_burst(job_, address, beats);
    bursts_.push_back({address, beats, false});
  }

  bool idle() const { return bursts_.empty() && beats_.empty() && responses_.empty(); }

  void forget() {
    bursts_.clear();
    beats_.clear();
    responses_.clear();
    offered_ = false;
  }

  void data(const void* bytes, uint64_t strobe, bool last) {
    Beat beat{{}, strobe, last};
    std::memcpy(beat.bytes, bytes, BUS_BYTES);
    beats_.push_back(beat);
  }

  // Write the beats whose address is known.
  void commit(uint64_t now) {
    while (!beats_.empty() && !bursts_.empty()) {
      const Beat& beat = beats_.front();
      Burst& burst = bursts_.front();
      for (int i = 0; i < BUS_BYTES; ++i)
        if (beat.strobe >> i & 1 && !outside(job_, burst.address)) job_.memory[burst.address + i] = beat.bytes[i];
      burst.missing |= outside(job_, burst.address);
      burst.address += BUS_BYTES;
      if (beat.last != (--burst.beats == 0)) throw Fault{BUS_PROTOCOL, burst.address};
      if (beat.last) {
        responses_.push_back({now + job_.write_latency, burst.missing ? DECODE_ERROR : OKAY});
        bursts_.pop_front();
      }
      beats_.pop_front();
    }
  }

  void responded() {
    offered_ = false;
    responses_.pop_front();
  }

 private:
  struct Burst {
    uint64_t address, beats;
    bool missing;
  };
  struct Response {
    uint64_t cycle;
    int code;
  };
  struct Beat {
    uint8_t bytes[BUS_BYTES];
    uint64_t strobe;
    bool last;
  };
  Job& job_;
  Random& random_;
  std::deque<Burst> bursts_;
  std::deque<Beat> beats_;
  std::deque<Response> responses_;
  bool offered_ = false;
};

class Testbench {
 public:
  explicit Testbench(const Job& job)
      : job_(job), random_(job.stalls_seed), fetch_(job_, random_), load_(job_, random_), store_(job_, random_) {
#if MUTANTS
    top_.mutant = job.mutant;
#endif
    reset();
  }

  // The memory is reset together with the machine: both forget open bursts.
  void reset() {
    top_.rst = 1;
    for (int i = 0; i < RESET_CYCLES; ++i) {
      cycle();
      fetch_.forget();
      load_.forget();
      store_.forget();
    }
    top_.rst = 0;
  }

  void start(const Job& job) {
    job_ = job;
    write(REGISTER_STATUS, STATUS_DONE);  // the last run's, whose interrupt would end this one
    write(REGISTER_WATCHDOG, job.watchdog);
    write(REGISTER_IMAGE_ADDRESS_LO, job.image_address & 0xFFFFFFFF);
    write(REGISTER_IMAGE_ADDRESS_HI, job.image_address >> 32);
    write(REGISTER_PROGRAM_ADDRESS, job.memory_base + job.program_address);
    write(REGISTER_PROGRAM_COUNT, job.program_count);
    write(REGISTER_CONTROL, CONTROL_RUN);
  }

  const Job& job() const { return job_; }

  // One write without a program under way: data `apart` cycles after the address (before it, if negative), the response
  // accepted after `hold` cycles. Returns the response.
  uint32_t store(const Access& access) {
    const int apart = access.apart;
    bool addressed = false, supplied = false;
    for (int now = apart < 0 ? apart : 0; !addressed || !supplied; ++now) {
      top_.control_awaddr = access.address;
      top_.control_wdata = access.data;
      top_.control_wstrb = access.strobe;
      top_.control_awvalid = !addressed && now >= 0;
      top_.control_wvalid = !supplied && now >= apart;
      top_.control_bready = 0;
      cycle();
      addressed |= control_addressed_;
      supplied |= control_supplied_;
    }
    top_.control_awvalid = top_.control_wvalid = 0;
    for (uint32_t i = 0; i < access.hold || !top_.control_bvalid; ++i) cycle();
    const uint32_t response = top_.control_bresp;
    top_.control_bready = 1;
    cycle();
    return response;
  }

  // One read after `hold` cycles, whose answer is accepted after as many. Returns the response; the data are left in
  // `access`.
  uint32_t load(Access& access) {
    for (uint32_t i = 0; i < access.hold; ++i) cycle();
    access.data = read(access.address, access.hold);
    return read_response_;
  }

  bool interrupts() const { return top_.irq; }

  struct Block {
    void* data;
    uint64_t bytes;
  };

  Block memory(uint32_t index) {
    auto& root = *top_.rootp;
    const Block blocks[] = {
#define MEMORY(path) {&root.accelerator__DOT__##path##__DOT__words, sizeof root.accelerator__DOT__##path##__DOT__words},
#include "memories.inc"
#undef MEMORY
    };
    return blocks[index];
  }

  void counters(uint32_t* into) {
    auto& root = *top_.rootp;
#define COUNTER(path) *into++ = root.accelerator__DOT__##path;
#include "counters.inc"
#undef COUNTER
  }

  void coverage(const char* path) {
#if COVERAGE
    context_.coveragep()->write(path);
#endif
  }

  Status advance() {
    const auto end = std::chrono::steady_clock::now() + SLICE_TIME;
    do {
      for (int i = 0; i < SLICE_CYCLES; ++i) {
        if (top_.irq) return finish();
        if (job_.total_cycles >= job_.max_cycles) return WATCHDOG;
        if (job_.offsets && job_.total_cycles == job_.offset_cycle) offset_counters();
        if (job_.stop_cycles && job_.total_cycles == job_.stop_cycles) write(REGISTER_CONTROL, CONTROL_HALT);
        if (job_.clear_cycles && job_.total_cycles == job_.clear_cycles) write(REGISTER_STATUS, STATUS_DONE);
        cycle();
      }
    } while (std::chrono::steady_clock::now() < end);
    return RUNNING;
  }

 private:
  // Bits that a mutant drives do not hold what is added to them.
  void offset_counters() {
    auto& root = *top_.rootp;
    uint32_t* offset = job_.offsets;
#define COUNTER(path)                                           \
  {                                                             \
    const uint32_t before = root.accelerator__DOT__##path;      \
    root.accelerator__DOT__##path += *offset;                   \
    top_.eval();                                                \
    *offset++ = root.accelerator__DOT__##path - before;         \
  }
#include "counters.inc"
#undef COUNTER
  }

  Status finish() {
    const bool valid = top_.fetch_arvalid || top_.load_arvalid || top_.store_awvalid || top_.store_wvalid;
    if (valid || !fetch_.idle() || !load_.idle() || !store_.idle()) throw Fault{BUS_PROTOCOL, 0};
    for (uint32_t i = 0; i < REGISTERS; ++i) job_.registers[i] = read(4 * i);
    return FINISHED;
  }

  // With stalls, some cycles after what was written before.
  void write(uint32_t address, uint32_t data) {
    while (random_.stall()) cycle();
    top_.control_awaddr = address;
    top_.control_wdata = data;
    top_.control_wstrb = 15;
    top_.control_awvalid = top_.control_wvalid = top_.control_bready = 1;
    do cycle();
    while (!control_addressed_);
    top_.control_awvalid = top_.control_wvalid = 0;
  }

  uint32_t read(uint32_t address, uint32_t hold = 0) {
    top_.control_araddr = address;
    top_.control_arvalid = 1;
    top_.control_rready = 0;
    while (!top_.control_rvalid) cycle();
    top_.control_arvalid = 0;
    for (uint32_t i = 0; i < hold; ++i) cycle();
    top_.control_rready = 1;
    const uint32_t data = top_.control_rdata;
    read_response_ = top_.control_rresp;
    cycle();
    top_.control_rready = 0;
    top_.eval();
    return data;
  }

  // Inputs, settled outputs, what they mean, rising edge.
  void cycle() {
    top_.clk = 0;
    if (random_.enabled()) {  // nothing depends on the falling edge, nor on what inputs are before they settle
      fetch_.noise(top_.fetch_rvalid, top_.fetch_rdata, top_.fetch_rlast, top_.fetch_rresp);
      load_.noise(top_.load_rvalid, top_.load_rdata, top_.load_rlast, top_.load_rresp);
      top_.eval();
    }
    const bool pause = job_.total_cycles - job_.pause_begin < job_.pause_cycles;
    fetch_.drive(now_, pause, top_.fetch_arready, top_.fetch_rvalid, top_.fetch_rdata, top_.fetch_rlast,
                 top_.fetch_rresp);
    load_.drive(now_, pause, top_.load_arready, top_.load_rvalid, top_.load_rdata, top_.load_rlast, top_.load_rresp);
    store_.drive(now_, pause, top_.store_wvalid, top_.store_awready, top_.store_wready, top_.store_bvalid,
                 top_.store_bresp);
    top_.eval();
    control_addressed_ = top_.control_awvalid && top_.control_awready;
    control_supplied_ = top_.control_wvalid && top_.control_wready;
    if (top_.protocol) throw Fault{MONITOR, top_.protocol};
    if (top_.running) record();
    handshakes();
    top_.clk = 1;
    top_.eval();
    ++now_;
  }

  void record() {
    const uint8_t events[2] = {top_.issue, top_.complete};
    for (int kind = 0; kind < 2; ++kind)
      for (int unit = 0; events[kind] && unit < UNITS; ++unit)
        if (events[kind] >> unit & 1) {
          uint64_t& count = job_.count[kind][unit];
          if (count == job_.capacity[unit]) throw Fault{TOO_MANY_EVENTS, 0};
          job_.stamps[kind][unit][count++] = job_.total_cycles;
        }
    ++job_.total_cycles;
  }

  uint64_t offset(uint64_t address) const { return address - job_.image_address - job_.memory_base; }

  void handshakes() {
    if (top_.fetch_rvalid && top_.fetch_rready) fetch_.accepted(now_);
    if (top_.load_rvalid && top_.load_rready) load_.accepted(now_);
    if (top_.store_bvalid && top_.store_bready) store_.responded();
    if (top_.fetch_arvalid && top_.fetch_arready) fetch_.address(now_, offset(top_.fetch_araddr), top_.fetch_arlen + 1);
    if (top_.load_arvalid && top_.load_arready) load_.address(now_, offset(top_.load_araddr), top_.load_arlen + 1);
    if (top_.store_awvalid && top_.store_awready) store_.address(offset(top_.store_awaddr), top_.store_awlen + 1);
    if (top_.store_wvalid && top_.store_wready) store_.data(&top_.store_wdata, top_.store_wstrb, top_.store_wlast);
    store_.commit(now_);
  }

  VerilatedContext context_;
  Vaccelerator top_{&context_};
  Job job_;
  Random random_;
  ReadChannel fetch_, load_;
  WriteChannel store_;
  uint64_t now_ = 0;
  bool control_addressed_ = false, control_supplied_ = false;
  uint32_t read_response_ = 0;
};

}  // namespace

extern "C" {

void* testbench_create(const Job* job) { return new Testbench(*job); }

void testbench_start(void* testbench, const Job* job) { static_cast<Testbench*>(testbench)->start(*job); }

int testbench_advance(void* testbench, Job* job) {
  Testbench& bench = *static_cast<Testbench*>(testbench);
  try {
    const Status status = bench.advance();
    *job = bench.job();
    return status;
  } catch (const Fault& fault) {
    *job = bench.job();
    job->fault_address = fault.address;
    return fault.status;
  }
}

void testbench_reset(void* testbench) { static_cast<Testbench*>(testbench)->reset(); }

void testbench_access(void* testbench, Access* access) {
  Testbench& bench = *static_cast<Testbench*>(testbench);
  access->response = access->write ? bench.store(*access) : bench.load(*access);
  access->interrupt = bench.interrupts();
}

void* testbench_memory(void* testbench, uint32_t index, uint64_t* bytes) {
  const auto block = static_cast<Testbench*>(testbench)->memory(index);
  *bytes = block.bytes;
  return block.data;
}

void testbench_counters(void* testbench, uint32_t* into) { static_cast<Testbench*>(testbench)->counters(into); }

void testbench_coverage(void* testbench, const char* path) { static_cast<Testbench*>(testbench)->coverage(path); }

void testbench_destroy(void* testbench) { delete static_cast<Testbench*>(testbench); }
}
