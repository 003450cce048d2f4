// CPU time of ggml_ssm_scan, one thread: alone, and with what llama.cpp's graph of a Mamba-1 layer has around it that the
// scans of the others have inside: dt's bias, D and the gate. README.md says how to compile it.
// target/ggml-peer FOLDER [TURNS]     FOLDER as `ssm-peers --dump FOLDER` leaves it.

#include "ggml-cpu.h"
#include "ggml.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <stdexcept>
#include <string>
#include <time.h>
#include <vector>

namespace fs = std::filesystem;

// Seconds between two looks at the clock: what is shorter runs several times.
static const double LAP = 0.003;

struct Shape {
    int64_t batch, dim, seqlen, dstate;
    double state_steps() const { return double(batch) * dim * seqlen * dstate; }
};

static std::vector<float> load(const fs::path & folder, const std::string & name) {
    std::ifstream file(folder / (name + ".f32"), std::ios::binary | std::ios::ate);
    if (!file) throw std::runtime_error("no " + name + ".f32");
    std::vector<float> data(size_t(file.tellg()) / sizeof(float));
    file.seekg(0);
    file.read(reinterpret_cast<char *>(data.data()), std::streamsize(data.size() * sizeof(float)));
    return data;
}

static double cpu_seconds() {
    timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return double(now.tv_sec) + 1e-9 * double(now.tv_nsec);
}

static double lap(const std::function<void()> & run, int calls) {
    const double start = cpu_seconds();
    for (int i = 0; i < calls; i++) run();
    return (cpu_seconds() - start) / calls;
}

// A layer's tensors, and the graph up to the scan or up to the gate.
class Graph {
  public:
    Graph(const fs::path & folder, Shape shape, bool whole) : shape(shape) {
        ctx = ggml_init({memory(), nullptr, false});
        ggml_tensor * x = filled(folder, "x", shape.dim, shape.seqlen, shape.batch);
        ggml_tensor * dt = filled(folder, "dt", shape.dim, shape.seqlen, shape.batch);
        ggml_tensor * bias = filled(folder, "dt_bias", shape.dim);
        ggml_tensor * A = filled(folder, "A", shape.dstate, shape.dim);
        ggml_tensor * B = filled(folder, "B", shape.dstate, 1, shape.seqlen, shape.batch);
        ggml_tensor * C = filled(folder, "C", shape.dstate, 1, shape.seqlen, shape.batch);
        // A channel is a head with one row.
        ggml_tensor * states = ggml_new_tensor_4d(ctx, GGML_TYPE_F32, shape.dstate, 1, shape.dim, shape.batch);
        std::fill_n(ggml_get_data_f32(states), ggml_nelements(states), 0.0f);
        ggml_tensor * ids = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, shape.batch);
        for (int64_t i = 0; i < shape.batch; i++) static_cast<int32_t *>(ids->data)[i] = int32_t(i);
        if (whole) {
            dt = ggml_add(ctx, dt, bias);
        } else {
            add_bias(dt, bias);
        }
        ggml_tensor * heads = ggml_reshape_4d(ctx, x, 1, shape.dim, shape.seqlen, shape.batch);
        out = ggml_ssm_scan(ctx, states, heads, dt, A, B, C, ids, 1);
        if (whole) {
            // The states lie behind y.
            ggml_tensor * y = ggml_view_3d(ctx, out, shape.dim, shape.seqlen, shape.batch, x->nb[1], x->nb[2], 0);
            y = ggml_add(ctx, y, ggml_mul(ctx, x, filled(folder, "D", shape.dim)));
            out = ggml_swiglu_split(ctx, filled(folder, "z", shape.dim, shape.seqlen, shape.batch), y);
        }
        graph = ggml_new_graph(ctx);
        ggml_build_forward_expand(graph, out);
        ggml_threadpool_params params = ggml_threadpool_params_default(1);
        threads = ggml_threadpool_new(&params);
        plan = ggml_graph_plan(graph, 1, threads);
        work.resize(plan.work_size);
        plan.work_data = work.data();
    }
    Graph(const Graph &) = delete;
    ~Graph() {
        ggml_threadpool_free(threads);
        ggml_free(ctx);
    }

    void run() {
        if (ggml_graph_compute(graph, &plan) != GGML_STATUS_SUCCESS) throw std::runtime_error("the graph failed");
    }

    // (batch, seqlen, dim).
    const float * result() const { return ggml_get_data_f32(out); }

  private:
    Shape shape;
    ggml_context * ctx;
    ggml_cgraph * graph;
    ggml_tensor * out;
    ggml_threadpool * threads;
    ggml_cplan plan;
    std::vector<uint8_t> work;

    size_t memory() const {
        const int64_t sequence = shape.batch * shape.seqlen * shape.dim, state = shape.batch * shape.dim * shape.dstate;
        const int64_t rows = shape.batch * shape.seqlen * shape.dstate;
        return sizeof(float) * size_t(8 * sequence + 3 * state + 2 * rows) + (16 << 20);
    }

    ggml_tensor * filled(const fs::path & folder, const char * name, int64_t a, int64_t b = 1, int64_t c = 1, int64_t d = 1) {
        ggml_tensor * tensor = ggml_new_tensor_4d(ctx, GGML_TYPE_F32, a, b, c, d);
        const std::vector<float> data = load(folder, name);
        if (int64_t(data.size()) != a * b * c * d) throw std::runtime_error(std::string("another size: ") + name);
        std::copy(data.begin(), data.end(), ggml_get_data_f32(tensor));
        return tensor;
    }

    void add_bias(ggml_tensor * dt, ggml_tensor * bias) {
        for (int64_t i = 0; i < ggml_nelements(dt); i++) {
            ggml_get_data_f32(dt)[i] += ggml_get_data_f32(bias)[i % shape.dim];
        }
    }
};

static void measure(const fs::path & folder, int turns) {
    Shape shape = {};
    if (std::sscanf(folder.filename().c_str(), "%ldx%ldx%ld", &shape.batch, &shape.dim, &shape.seqlen) != 3) {
        throw std::runtime_error("folders are named BATCHxDIMxSEQLEN");
    }
    shape.dstate = int64_t(load(folder, "A").size()) / shape.dim;
    std::printf("\n## (%ld, %ld, %ld), %ld states\n", shape.batch, shape.dim, shape.seqlen, shape.dstate);
    Graph scan(folder, shape, false), whole(folder, shape, true);
    whole.run();
    const std::vector<float> ours = load(folder, "out");
    float greatest = 1e-38f, apart = 0;
    for (size_t i = 0; i < ours.size(); i++) {
        greatest = std::max(greatest, std::fabs(ours[i]));
        const float here = std::fabs(ours[i] - whole.result()[i]);
        if (!(here <= apart)) apart = std::isnan(here) ? INFINITY : here;
    }
    std::printf("  greatest difference from ours over the greatest value:\n    out: %.1e\n", apart / greatest);
    if (apart > 2e-5f * greatest) throw std::runtime_error("out: not the same is timed");
    std::printf("\n| CPU ns per state step | median | least |\n|---|---:|---:|\n");
    const std::function<void()> runs[] = {[&] { scan.run(); }, [&] { whole.run(); }};
    const char * names[] = {"ggml_ssm_scan alone", "with dt's bias, D and the gate"};
    std::vector<double> laps[2];
    int calls[2];
    for (int i = 0; i < 2; i++) {
        lap(runs[i], 1);
        calls[i] = std::max(1, int(std::ceil(LAP / std::max(lap(runs[i], 1), 1e-9))));
    }
    for (int turn = 0; turn < turns; turn++) {
        for (int i = 0; i < 2; i++) laps[i].push_back(lap(runs[i], calls[i]));
    }
    for (int i = 0; i < 2; i++) {
        std::sort(laps[i].begin(), laps[i].end());
        const double each = 1e9 / shape.state_steps(), median = laps[i][laps[i].size() / 2];
        std::printf("| %s | %.3f | %.3f |\n", names[i], median * each, laps[i][0] * each);
    }
}

int main(int count, char ** words) {
    if (count < 2) {
        std::fprintf(stderr, "ggml FOLDER [TURNS]\n");
        return 2;
    }
    std::set<fs::path> shapes;
    for (const auto & entry : fs::directory_iterator(words[1])) shapes.insert(entry.path());
    const int turns = count > 2 ? std::max(1, std::atoi(words[2])) : 11;
    std::printf("ggml %s, AVX-512 %d, AVX2 %d\n", ggml_version(), ggml_cpu_has_avx512(), ggml_cpu_has_avx2());
    for (const fs::path & shape : shapes) measure(shape, turns);
    return 0;
}
