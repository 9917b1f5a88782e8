/* Counts what an emulated Arm program executes: a plugin of QEMU's user mode.
 *
 * The program marks a moment by the system call 9999, which Linux does not have: its first argument k comes out as
 *
 *     mark K instructions N simd N multiply_adds N loads N stores N load_bytes N store_bytes N
 *
 * with the counts since the program began. The last line, when it ends, is "total 0" and the same.
 *
 *     instructions          all of them
 *     simd                  SIMD and floating point instructions, but for loads and stores
 *     multiply_adds         those of them that multiply and add, whatever the number of their lanes
 *     loads, stores         accesses of memory: the emulator splits those of more than 8 bytes
 *
 * The last four are counted from the first mark on.
 *
 * Arguments: out=FILE (default: stderr), memory=off (leaves out the last four, and is faster).
 * Programs with several threads may be counted wrong: the counters are not locked.
 *
 * The declarations are those of QEMU's include/qemu/qemu-plugin.h, which distributions do not ship, for version 1 of
 * its interface: QEMU 6.0 to 8.1. Encodings are those of the Arm Architecture Reference Manual for A-profile, "A64
 * instruction set encoding", "A32 ... encoding" and "T32 ... encoding".
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define API_VERSION 1
#define MARK 9999
#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
typedef uint32_t memory_info;
struct qemu_plugin_tb;
struct qemu_plugin_insn;

typedef struct {
  const char *target_arch;
  struct {
    int min;
    int cur;
  } version;
  bool system_emulation;
  union {
    struct {
      int smp_vcpus;
      int max_vcpus;
    } system;
  };
} qemu_info;

enum { INLINE_ADD_U64 = 0 };
enum { NO_REGISTERS = 0 };
enum { READS_AND_WRITES = 3 };

typedef void (*translate_callback)(plugin_id, struct qemu_plugin_tb *);
typedef void (*memory_callback)(unsigned cpu, memory_info, uint64_t address, void *data);
typedef void (*syscall_callback)(plugin_id, unsigned cpu, int64_t number, uint64_t, uint64_t, uint64_t, uint64_t,
                                 uint64_t, uint64_t, uint64_t, uint64_t);
typedef void (*exit_callback)(plugin_id, void *data);
typedef void (*reset_callback)(plugin_id);

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, translate_callback);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int operation, void *counter, uint64_t amount);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, memory_callback, int flags, int which, void *data);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, syscall_callback);
void qemu_plugin_register_atexit_cb(plugin_id, exit_callback, void *data);
void qemu_plugin_reset(plugin_id, reset_callback);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
bool qemu_plugin_mem_is_store(memory_info);
unsigned qemu_plugin_mem_size_shift(memory_info);

EXPORT int qemu_plugin_version = API_VERSION;

enum { INSTRUCTIONS, SIMD, MULTIPLY_ADDS, LOADS, STORES, LOAD_BYTES, STORE_BYTES, NUM_COUNTERS };

static const char *const names[NUM_COUNTERS] = {"instructions", "simd",       "multiply_adds", "loads",
                                                "stores",       "load_bytes", "store_bytes"};

static uint64_t counters[NUM_COUNTERS];
static bool is_64_bit;
static bool wants_memory = true;
static bool counts_memory; /* from the first mark on, see on_syscall */
static FILE *output;

typedef struct {
  uint32_t mask;
  uint32_t value;
} pattern;

static bool matches(uint32_t word, const pattern *patterns, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if ((word & patterns[i].mask) == patterns[i].value) return true;
  }
  return false;
}
#define MATCHES(word, patterns) matches(word, patterns, sizeof(patterns) / sizeof(*(patterns)))

/* A64: bits 28 to 25 are x111 for data processing with SIMD and floating point. */
static bool is_simd_a64(uint32_t word) { return (word & 0x0e000000) == 0x0e000000; }

static bool is_multiply_add_a64(uint32_t word) {
  static const pattern patterns[] = {
      {0xbf20fc00, 0x0e20cc00}, /* FMLA, FMLS, vectors */
      {0xbf60fc00, 0x0e400c00}, /* the same in half precision */
      {0xbf80b400, 0x0f801000}, /* by element */
      {0xbfc0b400, 0x0f001000}, /* by element, half precision */
      {0xff80b400, 0x5f801000}, /* scalar by element */
      {0xff000000, 0x1f000000}, /* FMADD, FMSUB, FNMADD, FNMSUB */
      {0x9f20fc00, 0x0e209400}, /* MLA, MLS */
      {0x9f20dc00, 0x0e208000}, /* SMLAL, UMLAL, SMLSL, UMLSL */
      {0xbf20dc00, 0x0e209000}, /* SQDMLAL, SQDMLSL */
      {0xbf00b400, 0x2f000000}, /* MLA, MLS by element */
      {0x9f00b400, 0x0f002000}, /* SMLAL, UMLAL, SMLSL, UMLSL by element */
      {0xbf00b400, 0x0f003000}, /* SQDMLAL, SQDMLSL by element */
      {0x9f20fc00, 0x0e009400}, /* SDOT, UDOT */
      {0x9f00f400, 0x0f00e000}, /* SDOT, UDOT by element */
  };
  return MATCHES(word, patterns);
}

static bool is_simd_a32(uint32_t word) {
  static const pattern patterns[] = {
      {0xfe000000, 0xf2000000}, /* Advanced SIMD data processing */
      {0x0f000e00, 0x0e000a00}, /* floating point data processing, transfers of 32 bits */
      {0x0fe00e00, 0x0c400a00}, /* transfers of 64 bits */
  };
  return MATCHES(word, patterns);
}

static bool is_multiply_add_a32(uint32_t word) {
  static const pattern patterns[] = {
      {0xfe800f10, 0xf2000900}, /* VMLA, VMLS of integers */
      {0xff800f10, 0xf2000d10}, /* VMLA, VMLS of floats */
      {0xff800f10, 0xf2000c10}, /* VFMA, VFMS */
      {0x0fb00e10, 0x0e000a00}, /* scalar VMLA, VMLS */
      {0x0fb00e10, 0x0e100a00}, /* scalar VNMLA, VNMLS */
      {0x0fb00e10, 0x0e900a00}, /* scalar VFNMA, VFNMS */
      {0x0fb00e10, 0x0ea00a00}, /* scalar VFMA, VFMS */
  };
  static const pattern with_size[] = {
      {0xfe800d50, 0xf2800800}, /* VMLAL, VMLSL */
      {0xff800d50, 0xf2800900}, /* VQDMLAL, VQDMLSL */
      {0xfe800850, 0xf2800040}, /* all of them by scalar */
  };
  const bool has_size = (word & 0x00300000) != 0x00300000; /* size 3 there is VEXT, VTBL and others */
  return MATCHES(word, patterns) || (has_size && MATCHES(word, with_size));
}

/* Returns the A32 form of a T32 instruction of 32 bits, as far as the functions above look at it. */
static uint32_t t32_to_a32(uint32_t memory) {
  const uint32_t word = memory << 16 | memory >> 16; /* its first half is the upper one */
  if ((word & 0xef000000) == 0xef000000) return 0xf2000000 | (word >> 28 & 1) << 24 | (word & 0x00ffffff);
  if ((word & 0xf0000000) == 0xe0000000) return word; /* coprocessor instructions look alike */
  return 0;
}

static bool could_be_t32(uint32_t memory) { return (memory & 0xffff) >> 11 >= 0x1d; }

/* Says whether a block holds T32 instructions, which plugins are not told: some of them have 16 bits, and all that have
 * 32 begin with 0b11101 or above. A block of A32 that looks so by chance is one or two branches long. */
static bool is_t32(const struct qemu_plugin_tb *block, size_t count) {
  for (size_t i = 0; i < count; i++) {
    const struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
    if (qemu_plugin_insn_size(instruction) == 2) return true;
    uint32_t word;
    memcpy(&word, qemu_plugin_insn_data(instruction), 4);
    if (!could_be_t32(word)) return false;
  }
  return true;
}

static void classify(const struct qemu_plugin_insn *instruction, bool t32, uint64_t *amounts) {
  if (qemu_plugin_insn_size(instruction) != 4) return;
  uint32_t word;
  memcpy(&word, qemu_plugin_insn_data(instruction), 4);
  if (t32) word = t32_to_a32(word);
  const bool simd = is_64_bit ? is_simd_a64(word) : is_simd_a32(word);
  if (!simd) return;
  amounts[SIMD]++;
  if (is_64_bit ? is_multiply_add_a64(word) : is_multiply_add_a32(word)) amounts[MULTIPLY_ADDS]++;
}

/* Called for loads and for stores. Not registered for one kind alone, because QEMU 7.2 calls it for the wrong one then
 * (accel/tcg/plugin-gen.c, op_rw). */
static void on_memory(unsigned cpu, memory_info info, uint64_t address, void *data) {
  (void)cpu, (void)address, (void)data;
  const bool store = qemu_plugin_mem_is_store(info);
  counters[store ? STORES : LOADS]++;
  counters[store ? STORE_BYTES : LOAD_BYTES] += UINT64_C(1) << qemu_plugin_mem_size_shift(info);
}

static void on_translate(plugin_id id, struct qemu_plugin_tb *block) {
  (void)id;
  const size_t count = qemu_plugin_tb_n_insns(block);
  const bool t32 = !is_64_bit && is_t32(block, count);
  uint64_t amounts[NUM_COUNTERS] = {[INSTRUCTIONS] = count};
  for (size_t i = 0; i < count; i++) {
    struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
    classify(instruction, t32, amounts);
    if (counts_memory) qemu_plugin_register_vcpu_mem_cb(instruction, on_memory, NO_REGISTERS, READS_AND_WRITES, NULL);
  }
  for (int i = 0; i < NUM_COUNTERS; i++) {
    if (amounts[i]) qemu_plugin_register_vcpu_tb_exec_inline(block, INLINE_ADD_U64, &counters[i], amounts[i]);
  }
}

static void print_counters(const char *what, uint64_t number) {
  fprintf(output, "%s %llu", what, (unsigned long long)number);
  for (int i = 0; i < NUM_COUNTERS; i++) fprintf(output, " %s %llu", names[i], (unsigned long long)counters[i]);
  fputc('\n', output);
  fflush(output);
}

static void register_callbacks(plugin_id id);

/* To count accesses of memory makes a program three times slower, so it begins with the first mark: from there on all
 * code is translated anew. */
static void on_syscall(plugin_id id, unsigned cpu, int64_t number, uint64_t first, uint64_t a2, uint64_t a3,
                       uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
  (void)cpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
  if (number != MARK) return;
  print_counters("mark", first);
  if (wants_memory && !counts_memory) {
    counts_memory = true;
    qemu_plugin_reset(id, register_callbacks);
  }
}

static void on_exit(plugin_id id, void *data) {
  (void)id, (void)data;
  print_counters("total", 0);
}

static void register_callbacks(plugin_id id) {
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
  qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
  qemu_plugin_register_atexit_cb(id, on_exit, NULL);
}

static int fail(const char *problem, const char *value) {
  fprintf(stderr, "plugin for instruction counts: %s%s\n", problem, value);
  return -1;
}

EXPORT int qemu_plugin_install(plugin_id id, const qemu_info *info, int argc, char **argv) {
  if (info->version.min > API_VERSION || info->version.cur < API_VERSION) return fail("QEMU 6.0 to 8.1 is needed", "");
  is_64_bit = strcmp(info->target_arch, "aarch64") == 0;
  if (info->system_emulation || (!is_64_bit && strcmp(info->target_arch, "arm") != 0)) {
    return fail("only programs for Arm are counted, not ", info->target_arch);
  }
  output = stderr;
  for (int i = 0; i < argc; i++) {
    if (strncmp(argv[i], "out=", 4) == 0) {
      output = fopen(argv[i] + 4, "w");
      if (!output) return fail("cannot write ", argv[i] + 4);
    } else if (strcmp(argv[i], "memory=off") == 0) {
      wants_memory = false;
    } else if (strcmp(argv[i], "memory=on") != 0) {
      return fail("unknown argument ", argv[i]);
    }
  }
  register_callbacks(id);
  return 0;
}
