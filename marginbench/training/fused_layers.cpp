// A layer of a plain network in one call: convolution, batch normalisation, PReLU, and 2×2 max pooling
// where it has one; and its gradient.
//
// Images are channels-last, (N, H, W, C); a convolution has an odd kernel, stride 1 and zero padding
// that keeps the size. One thread takes every sum in one fixed order, so results repeat to the bit.
// Vectors run along the channels: their length does not change the order of any sum.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace {

constexpr long LANES = 8;
// So many numbers of padded images are taken together: what fits the cache beside the weights.
constexpr long GROUP_NUMBERS = 12 * 1024;
// A float32 sum runs over so many pixels before it is added in double precision.
constexpr long BLOCK = 64;

typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef double Wide __attribute__((vector_size(8 * LANES)));
typedef int Mask __attribute__((vector_size(4 * LANES)));
typedef unsigned char Places __attribute__((vector_size(LANES)));
typedef float Unaligned __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef double UnalignedWide __attribute__((vector_size(8 * LANES), aligned(8), may_alias));
typedef unsigned char UnalignedPlaces __attribute__((vector_size(LANES), aligned(1), may_alias));

inline Vector load(const float* from) { return *reinterpret_cast<const Unaligned*>(from); }
inline void store(float* to, Vector value) { *reinterpret_cast<Unaligned*>(to) = value; }
inline Vector all(float value) { return value - Vector{}; }
inline long rounded_up(long channels) { return (channels + LANES - 1) / LANES * LANES; }

// Memory that is zero at first and begins on a cache line, with room for one vector beyond the end.
template <typename Number>
struct Buffer {
    struct Free {
        void operator()(Number* values) const { std::free(values); }
    };
    std::unique_ptr<Number, Free> values;

    explicit Buffer(long count) {
        const long bytes = ((count + 2 * LANES) * static_cast<long>(sizeof(Number)) + 63) / 64 * 64;
        values.reset(static_cast<Number*>(std::aligned_alloc(64, bytes)));
        std::memset(values.get(), 0, bytes);
    }
    operator Number*() const { return values.get(); }
};

// Channels of one pixel. Where they are fewer than a vector has lanes, the rest belongs to the next
// pixels: it may be read, and written if those pixels are written later. Behind the last pixel there
// is nothing.
inline Vector load_some(const float* from, long channels, bool is_last) {
    if (channels >= LANES || !is_last) return load(from);
    Vector value{};
    for (long lane = 0; lane < channels; ++lane) value[lane] = from[lane];
    return value;
}

inline void store_some(float* to, Vector value, long channels, bool is_last) {
    if (channels >= LANES || !is_last) return store(to, value);
    for (long lane = 0; lane < channels; ++lane) to[lane] = value[lane];
}

// How many pixels have so many lanes behind their last vector within all the pixels.
inline long pixels_before_the_last(long pixels, long channels) {
    return std::max(0L, pixels - (LANES + channels - 1) / channels);
}

struct Shape {
    long images, height, width, channels, kernel, filters, pools;

    long pixels() const { return height * width; }
    long pooled_height() const { return pools ? (height + 1) / 2 : height; }
    long pooled_width() const { return pools ? (width + 1) / 2 : width; }
    long pooled_pixels() const { return pooled_height() * pooled_width(); }
    long border() const { return kernel / 2; }
    long padded_pixels() const { return (height + 2 * border()) * (width + 2 * border()); }
    long taps() const { return kernel * kernel; }
    long group() const {
        const long each = padded_pixels() * std::max(rounded_up(channels), rounded_up(filters));
        return std::min(images, std::max(1L, GROUP_NUMBERS / each));
    }
};

// Images within a border of zeros, `pitch` numbers a pixel.
struct Padded {
    long height, width, border, pitch, pixels;
    Buffer<float> values;

    Padded(const Shape& shape, long images, long pitch)
        : height(shape.height), width(shape.width), border(shape.border()), pitch(pitch),
          pixels(shape.padded_pixels()), values(images * pixels * pitch) {}

    long row() const { return (width + 2 * border) * pitch; }
    // The corner of the window of an output pixel.
    float* window(long image, long y, long x) const {
        return values + image * pixels * pitch + y * row() + x * pitch;
    }
    float* line(long image, long y) const { return window(image, y + border, border); }

    void fill(long images, const float* from, long channels) {
        for (long image = 0; image < images; ++image)
            for (long y = 0; y < height; ++y) {
                float* to = line(image, y);
                if (pitch == channels) {
                    std::memcpy(to, from, width * channels * sizeof(float));
                    from += width * channels;
                } else {
                    for (long x = 0; x < width; ++x, to += pitch, from += channels)
                        std::memcpy(to, from, channels * sizeof(float));
                }
            }
    }
};

// Numbers of a kernel's row that lie side by side: all of them, or one pixel's at a time.
struct Runs {
    long count, length, step;

    Runs(long kernel, long pitch, long channels)
        : count(pitch == channels ? 1 : kernel),
          length(pitch == channels ? kernel * channels : channels), step(pitch) {}
};

// Convolution: PIXELS outputs at once, VECTORS vectors of their channels from `first` on.
// weights: (K, K, channels, pitch of filters).
template <int PIXELS, int VECTORS>
void convolve_part(const Padded& images, long count, long kernel, long channels,
                   const float* weights, long filters, long first, float* output) {
    const Runs runs(kernel, images.pitch, channels);
    const long pitch = rounded_up(filters), total = count * images.height * images.width;
    const long before_last = pixels_before_the_last(total, filters);
    long image = 0, y = 0, x = 0;
    for (long done = 0; done < total; done += PIXELS) {
        const float* corner[PIXELS];
        for (long p = 0; p < PIXELS; ++p) {
            if (done + p >= total) {
                corner[p] = corner[0];
                continue;
            }
            corner[p] = images.window(image, y, x);
            if (++x == images.width) {
                x = 0;
                if (++y == images.height) y = 0, ++image;
            }
        }
        Vector sums[PIXELS][VECTORS] = {};
        const float* weight = weights + first;
        for (long dy = 0; dy < kernel; ++dy)
            for (long run = 0; run < runs.count; ++run) {
                const long offset = dy * images.row() + run * runs.step;
                for (long k = offset; k < offset + runs.length; ++k, weight += pitch) {
                    Vector own[VECTORS];
                    for (int v = 0; v < VECTORS; ++v) own[v] = load(weight + v * LANES);
                    for (int p = 0; p < PIXELS; ++p) {
                        const Vector value = all(corner[p][k]);
                        for (int v = 0; v < VECTORS; ++v) sums[p][v] += value * own[v];
                    }
                }
            }
        for (long p = 0; p < PIXELS && done + p < total; ++p) {
            float* to = output + (done + p) * filters + first;
            const bool is_last = done + p >= before_last;
            for (int v = 0; v < VECTORS; ++v)
                store_some(to + v * LANES, sums[p][v], filters - first - v * LANES, is_last);
        }
    }
}

// How many vectors of channels are taken at once, from the last channels to the first.
inline long vectors_at_once(long left) { return left == 1 || left == 3 ? left : 2; }

void convolve(const Padded& images, long count, long kernel, long channels, const float* weights,
              long filters, float* output) {
    for (long left = rounded_up(filters) / LANES; left > 0;) {
        const long vectors = vectors_at_once(left);
        left -= vectors;
        const auto part = vectors == 3   ? convolve_part<4, 3>
                          : vectors == 2 ? convolve_part<6, 2>
                                         : convolve_part<12, 1>;
        part(images, count, kernel, channels, weights, filters, left * LANES, output);
    }
}

// Weight gradient: ROWS numbers of a kernel's row at once, from k on.
template <int ROWS, int VECTORS>
void weigh_part(const Padded& images, const Padded& gradients, long count, long offset, long dy,
                long first, float* to) {
    const long pitch = gradients.pitch;
    Vector sums[ROWS][VECTORS] = {};
    for (long image = 0; image < count; ++image)
        for (long y = 0; y < images.height; ++y) {
            const float* input = images.window(image, y + dy, 0) + offset;
            const float* gradient = gradients.line(image, y) + first;
            for (long x = 0; x < images.width; ++x, input += images.pitch, gradient += pitch) {
                Vector own[VECTORS];
                for (int v = 0; v < VECTORS; ++v) own[v] = load(gradient + v * LANES);
                for (int r = 0; r < ROWS; ++r) {
                    const Vector value = all(input[r]);
                    for (int v = 0; v < VECTORS; ++v) sums[r][v] += value * own[v];
                }
            }
        }
    for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < VECTORS; ++v) {
            float* sum = to + r * pitch + first + v * LANES;
            store(sum, load(sum) + sums[r][v]);
        }
}

template <int ROWS, int VECTORS>
long weigh_rows(const Padded& images, const Padded& gradients, long count, long offset, long dy,
                long first, long left, float* to) {
    if constexpr (ROWS == 0) {
        return 0;
    } else {
        if (left < ROWS)
            return weigh_rows<ROWS - 1, VECTORS>(images, gradients, count, offset, dy, first, left,
                                                 to);
        weigh_part<ROWS, VECTORS>(images, gradients, count, offset, dy, first, to);
        return ROWS;
    }
}

// Adds to (K, K, channels, pitch of filters).
void weigh(const Padded& images, const Padded& gradients, long count, long kernel, long channels,
           float* weights) {
    const Runs runs(kernel, images.pitch, channels);
    for (long left_vectors = gradients.pitch / LANES; left_vectors > 0;) {
        const long vectors = vectors_at_once(left_vectors);
        left_vectors -= vectors;
        const auto rows = vectors == 3   ? weigh_rows<4, 3>
                          : vectors == 2 ? weigh_rows<6, 2>
                                         : weigh_rows<12, 1>;
        float* to = weights;
        for (long dy = 0; dy < kernel; ++dy)
            for (long run = 0; run < runs.count; ++run)
                for (long k = 0; k < runs.length;) {
                    const long done = rows(images, gradients, count, run * runs.step + k, dy,
                                           left_vectors * LANES, runs.length - k, to);
                    k += done;
                    to += done * gradients.pitch;
                }
    }
}

// (filters, K, K, channels), as torch has them in channels-last, and (K, K, channels, pitch).
void pack(const Shape& shape, const float* from, float* to) {
    const long rows = shape.taps() * shape.channels, pitch = rounded_up(shape.filters);
    for (long filter = 0; filter < shape.filters; ++filter)
        for (long row = 0; row < rows; ++row) to[row * pitch + filter] = from[filter * rows + row];
}

void unpack(const Shape& shape, const float* from, float* to) {
    const long rows = shape.taps() * shape.channels, pitch = rounded_up(shape.filters);
    for (long filter = 0; filter < shape.filters; ++filter)
        for (long row = 0; row < rows; ++row) to[filter * rows + row] = from[row * pitch + filter];
}

// For the images' gradient: the kernel turned by half a turn, (K, K, filters, pitch of channels).
void pack_turned(const Shape& shape, const float* from, float* to) {
    const long taps = shape.taps(), channels = shape.channels, pitch = rounded_up(channels);
    for (long filter = 0; filter < shape.filters; ++filter)
        for (long tap = 0; tap < taps; ++tap)
            for (long channel = 0; channel < channels; ++channel)
                to[((taps - 1 - tap) * shape.filters + filter) * pitch + channel] =
                    from[(filter * taps + tap) * channels + channel];
}

// What turns a convolution's output into the activation, a vector of channels at a time.
struct Affine {
    Buffer<float> scale, shift, slope, mean, deviation;

    Affine(long filters, const float* mean_of, const float* inverse_deviation, const float* weight,
           const float* bias, const float* slopes)
        : scale(filters), shift(filters), slope(filters), mean(filters), deviation(filters) {
        for (long c = 0; c < filters; ++c) {
            scale[c] = inverse_deviation[c] * weight[c];
            shift[c] = bias[c] - mean_of[c] * scale[c];
            slope[c] = slopes[c];
            mean[c] = mean_of[c];
            deviation[c] = inverse_deviation[c];
        }
    }
};

inline Vector chosen(Mask where, Vector yes, Vector no) { return where ? yes : no; }

// output is not the input: what lies beyond a pixel's channels is written, and then overwritten.
void activate(const Affine& affine, long pixels, long filters, const float* input, float* output) {
    for (long first = rounded_up(filters) - LANES; first >= 0; first -= LANES) {
        const Vector scale = load(affine.scale + first), shift = load(affine.shift + first);
        const Vector slope = load(affine.slope + first);
        const long left = filters - first;
        const auto one = [&](long pixel, bool is_last) {
            const long at = pixel * filters + first;
            const Vector value = load_some(input + at, left, is_last) * scale + shift;
            store_some(output + at, chosen(value > 0, value, slope * value), left, is_last);
        };
        const long before_last = pixels_before_the_last(pixels, filters);
        for (long pixel = 0; pixel < before_last; ++pixel) one(pixel, false);
        for (long pixel = before_last; pixel < pixels; ++pixel) one(pixel, true);
    }
}

// Max pooling: (N, H, W, filters) to half the height and width, rounded up; and where in its window
// each maximum was, 2·dy + dx, unless places is null. As torch's: of equal ones the first, a NaN wins.
// What lies beyond the input's and the places' end by less than a vector may be read or written.
void pool(const Shape& shape, long count, const float* input, float* output,
          unsigned char* places) {
    const long filters = shape.filters, total = count * shape.pooled_pixels();
    const long before_last = pixels_before_the_last(total, filters);
    for (long first = rounded_up(filters) - LANES; first >= 0; first -= LANES) {
        long pixel = 0;
        for (long image = 0; image < count; ++image)
            for (long y = 0; y < shape.height; y += 2)
                for (long x = 0; x < shape.width; x += 2, ++pixel) {
                    const float* from =
                        input + ((image * shape.height + y) * shape.width + x) * filters + first;
                    Vector best = load(from);
                    Mask place{};
                    for (int dy = 0; dy < 2 && y + dy < shape.height; ++dy)
                        for (int dx = 0; dx < 2 && x + dx < shape.width; ++dx) {
                            const Vector value = load(from + (dy * shape.width + dx) * filters);
                            const Mask better = (value > best) | (value != value);
                            best = chosen(better, value, best);
                            place = better ? 2 * dy + dx - Mask{} : place;
                        }
                    const long at = pixel * filters + first;
                    store_some(output + at, best, filters - first, pixel >= before_last);
                    if (places)
                        *reinterpret_cast<UnalignedPlaces*>(places + at) =
                            __builtin_convertvector(place, Places);
                }
    }
}

// The gradient of what was pooled: that of the maximum at its place, and 0 elsewhere.
void unpool(const Shape& shape, const float* gradient, const unsigned char* places,
            float* output) {
    const long filters = shape.filters, pooled_width = shape.pooled_width();
    const long before_last = pixels_before_the_last(shape.images * shape.pooled_pixels(), filters);
    for (long first = rounded_up(filters) - LANES; first >= 0; first -= LANES) {
        float* to = output + first;
        for (long image = 0; image < shape.images; ++image)
            for (long y = 0; y < shape.height; ++y) {
                const long row = (image * shape.pooled_height() + y / 2) * pooled_width;
                const Mask left = static_cast<int>(2 * (y % 2)) - Mask{}, right = left + 1;
                for (long x = 0; x < pooled_width; ++x, to += filters) {
                    const long at = (row + x) * filters + first;
                    const Mask place = __builtin_convertvector(
                        *reinterpret_cast<const UnalignedPlaces*>(places + at), Mask);
                    // Added to zero, as torch does: a gradient of -0 is 0.
                    const Vector above =
                        Vector{} + load_some(gradient + at, filters - first, row + x >= before_last);
                    store(to, chosen(place == left, above, Vector{}));
                    if (2 * x + 1 == shape.width) continue;
                    to += filters;
                    store(to, chosen(place == right, above, Vector{}));
                }
            }
    }
}

inline void add_wide(double* sums, Vector value) {
    auto to = reinterpret_cast<UnalignedWide*>(sums);
    *to = *to + __builtin_convertvector(value, Wide);
}

// Adds the sums over pixels of what `value` makes of a pixel's vector of channels.
template <typename Value>
void add_sums(long pixels, long filters, long first, const float* input, double* sums,
              const Value& value) {
    const long left = filters - first, before_last = pixels_before_the_last(pixels, filters);
    for (long begin = 0; begin < pixels; begin += BLOCK) {
        const long end = std::min(begin + BLOCK, pixels);
        Vector sum{};
        for (long p = begin; p < end; ++p)
            sum += value(load_some(input + p * filters + first, left, p >= before_last));
        add_wide(sums + first, sum);
    }
}

// Mean and squared deviations, joined group by group (Chan, Golub and LeVeque, 1979).
struct Statistics {
    long count = 0, filters;
    Buffer<double> mean, squared;

    explicit Statistics(long filters) : filters(filters), mean(filters), squared(filters) {}

    void add(long pixels, const float* values) {
        Buffer<double> sums(filters), deviations(filters);
        Buffer<float> own(filters);
        for (long first = 0; first < filters; first += LANES) {
            add_sums(pixels, filters, first, values, sums, [](Vector value) { return value; });
            for (long c = first; c < first + LANES; ++c)
                own[c] = static_cast<float>(sums[c] / static_cast<double>(pixels));
            const Vector middle = load(own + first);
            add_sums(pixels, filters, first, values, deviations, [middle](Vector value) {
                return (value - middle) * (value - middle);
            });
        }
        const double before = static_cast<double>(count), now = static_cast<double>(pixels);
        for (long c = 0; c < filters; ++c) {
            // The deviations are from the rounded mean; what that adds is taken off again.
            const double exact = sums[c] / now, off = exact - own[c];
            const double step = exact - mean[c];
            squared[c] += deviations[c] - now * off * off + step * step * before * now / (before + now);
            mean[c] += step * now / (before + now);
        }
        count += pixels;
    }
};

// The outputs of so many images; before_pooling has room for those images' activations.
void activate_and_pool(const Affine& affine, const Shape& shape, long count,
                       const float* convolved, float* before_pooling, float* output,
                       unsigned char* places) {
    const long pixels = count * shape.pixels();
    activate(affine, pixels, shape.filters, convolved, shape.pools ? before_pooling : output);
    if (shape.pools) pool(shape, count, before_pooling, output, places);
}

Shape shape_of(const long* s) { return {s[0], s[1], s[2], s[3], s[4], s[5], s[6]}; }

}  // namespace

extern "C" {

// All arrays are float32 and contiguous in the layouts named; shape: N, H, W, C, K, filters, and
// whether the layer pools. images (N, H, W, C), weights (filters, K, K, C), the others (filters) →
// convolved (N, H, W, filters), output (the same, or pooled), places of the maxima (as output, bytes,
// with room for one vector more; null if the layer does not pool), mean and inverse_deviation of the
// batch; the running ones are updated.
void layer_forward(const long* shape_numbers, const float* images, const float* weights,
                   const float* norm_weight, const float* norm_bias, const float* slopes,
                   double epsilon, double momentum, float* running_mean, float* running_variance,
                   float* convolved, float* mean, float* inverse_deviation, float* output,
                   unsigned char* places) {
    const Shape shape = shape_of(shape_numbers);
    const long group = shape.group(), filters = shape.filters;
    Buffer<float> packed(shape.taps() * shape.channels * rounded_up(filters));
    pack(shape, weights, packed);
    Padded padded(shape, group, shape.channels);
    Statistics statistics(filters);
    for (long begin = 0; begin < shape.images; begin += group) {
        const long count = std::min(group, shape.images - begin);
        float* to = convolved + begin * shape.pixels() * filters;
        padded.fill(count, images + begin * shape.pixels() * shape.channels, shape.channels);
        convolve(padded, count, shape.kernel, shape.channels, packed, filters, to);
        statistics.add(count * shape.pixels(), to);
    }
    const double pixels = static_cast<double>(statistics.count);
    for (long c = 0; c < filters; ++c) {
        const double variance = statistics.squared[c] / pixels;
        mean[c] = static_cast<float>(statistics.mean[c]);
        inverse_deviation[c] = static_cast<float>(1 / std::sqrt(variance + epsilon));
        const double unbiased = pixels > 1 ? statistics.squared[c] / (pixels - 1) : NAN;
        running_mean[c] = static_cast<float>((1 - momentum) * running_mean[c] +
                                             momentum * statistics.mean[c]);
        running_variance[c] = static_cast<float>((1 - momentum) * running_variance[c] +
                                                 momentum * unbiased);
    }
    const Affine affine(filters, mean, inverse_deviation, norm_weight, norm_bias, slopes);
    Buffer<float> before_pooling(shape.pools ? group * shape.pixels() * filters : 0);
    for (long begin = 0; begin < shape.images; begin += group) {
        const long pooled = begin * shape.pooled_pixels() * filters;
        activate_and_pool(affine, shape, std::min(group, shape.images - begin),
                          convolved + begin * shape.pixels() * filters, before_pooling,
                          output + pooled, places ? places + pooled : nullptr);
    }
}

// The gradients of all that layer_forward took; image_gradient may be null.
void layer_backward(const long* shape_numbers, const float* images, const float* weights,
                    const float* norm_weight, const float* norm_bias, const float* slopes,
                    const float* convolved, const float* mean, const float* inverse_deviation,
                    const unsigned char* places, const float* gradient, float* image_gradient,
                    float* weight_gradient, float* norm_weight_gradient,
                    float* norm_bias_gradient, float* slope_gradient) {
    const Shape shape = shape_of(shape_numbers);
    const long group = shape.group(), filters = shape.filters, pitch = rounded_up(filters);
    const long pixels = shape.images * shape.pixels();
    const long before_last = pixels_before_the_last(pixels, filters);
    const Affine affine(filters, mean, inverse_deviation, norm_weight, norm_bias, slopes);
    Buffer<float> unpooled(shape.pools ? pixels * filters : 0);
    if (shape.pools) {
        unpool(shape, gradient, places, unpooled);
        gradient = unpooled;
    }
    Buffer<double> of_weight(pitch), of_bias(pitch), of_slope(pitch);
    for (long begin = 0; begin < pixels; begin += BLOCK) {
        const long end = std::min(begin + BLOCK, pixels);
        for (long first = 0; first < filters; first += LANES) {
            const Vector scale = load(affine.scale + first), shift = load(affine.shift + first);
            const Vector slope = load(affine.slope + first), middle = load(affine.mean + first);
            const Vector deviation = load(affine.deviation + first);
            Vector weight_sum{}, bias_sum{}, slope_sum{};
            for (long pixel = begin; pixel < end; ++pixel) {
                const long at = pixel * filters + first, left = filters - first;
                const bool is_last = pixel >= before_last;
                const Vector input = load_some(convolved + at, left, is_last);
                const Vector above = load_some(gradient + at, left, is_last);
                const Vector value = input * scale + shift;
                const Vector own = chosen(value > 0, above, slope * above);
                slope_sum += chosen(value > 0, Vector{}, value * above);
                bias_sum += own;
                weight_sum += own * ((input - middle) * deviation);
            }
            add_wide(of_weight + first, weight_sum);
            add_wide(of_bias + first, bias_sum);
            add_wide(of_slope + first, slope_sum);
        }
    }
    Buffer<float> constant(pitch), linear(pitch);
    for (long c = 0; c < filters; ++c) {
        norm_weight_gradient[c] = static_cast<float>(of_weight[c]);
        norm_bias_gradient[c] = static_cast<float>(of_bias[c]);
        slope_gradient[c] = static_cast<float>(of_slope[c]);
        constant[c] = static_cast<float>(of_bias[c] / static_cast<double>(pixels));
        linear[c] = static_cast<float>(of_weight[c] / static_cast<double>(pixels) *
                                       inverse_deviation[c]);
    }
    const long rows = shape.taps() * shape.channels;
    Buffer<float> sums(rows * pitch);
    Buffer<float> turned(shape.taps() * filters * rounded_up(shape.channels));
    if (image_gradient) pack_turned(shape, weights, turned);
    Padded padded(shape, group, shape.channels), gradients(shape, group, pitch);
    for (long begin = 0; begin < shape.images; begin += group) {
        const long count = std::min(group, shape.images - begin);
        padded.fill(count, images + begin * shape.pixels() * shape.channels, shape.channels);
        long pixel = begin * shape.pixels();
        for (long image = 0; image < count; ++image)
            for (long y = 0; y < shape.height; ++y, pixel += shape.width)
                for (long first = 0; first < filters; first += LANES) {
                    const Vector scale = load(affine.scale + first);
                    const Vector shift = load(affine.shift + first);
                    const Vector slope = load(affine.slope + first);
                    const Vector middle = load(affine.mean + first);
                    const Vector even = load(constant + first), uneven = load(linear + first);
                    float* to = gradients.line(image, y) + first;
                    for (long x = 0; x < shape.width; ++x, to += pitch) {
                        const long at = (pixel + x) * filters + first, left = filters - first;
                        const bool is_last = pixel + x >= before_last;
                        const Vector input = load_some(convolved + at, left, is_last);
                        const Vector above = load_some(gradient + at, left, is_last);
                        const Vector value = input * scale + shift;
                        const Vector own = chosen(value > 0, above, slope * above);
                        store(to, scale * (own - even - (input - middle) * uneven));
                    }
                }
        weigh(padded, gradients, count, shape.kernel, shape.channels, sums);
        if (image_gradient)
            convolve(gradients, count, shape.kernel, filters, turned, shape.channels,
                     image_gradient + begin * shape.pixels() * shape.channels);
    }
    unpack(shape, sums, weight_gradient);
}

// As layer_forward, by the running statistics.
void layer_evaluate(const long* shape_numbers, const float* images, const float* weights,
                    const float* norm_weight, const float* norm_bias, const float* slopes,
                    double epsilon, const float* running_mean, const float* running_variance,
                    float* output) {
    const Shape shape = shape_of(shape_numbers);
    const long group = shape.group(), filters = shape.filters;
    Buffer<float> packed(shape.taps() * shape.channels * rounded_up(filters));
    Buffer<float> inverse_deviation(filters);
    pack(shape, weights, packed);
    for (long c = 0; c < filters; ++c)
        inverse_deviation[c] = static_cast<float>(1 / std::sqrt(running_variance[c] + epsilon));
    const Affine affine(filters, running_mean, inverse_deviation, norm_weight, norm_bias, slopes);
    Padded padded(shape, group, shape.channels);
    Buffer<float> convolved(group * shape.pixels() * filters);
    Buffer<float> before_pooling(shape.pools ? group * shape.pixels() * filters : 0);
    for (long begin = 0; begin < shape.images; begin += group) {
        const long count = std::min(group, shape.images - begin);
        float* to = output + begin * shape.pooled_pixels() * filters;
        padded.fill(count, images + begin * shape.pixels() * shape.channels, shape.channels);
        convolve(padded, count, shape.kernel, shape.channels, packed, filters, convolved);
        activate_and_pool(affine, shape, count, convolved, before_pooling, to, nullptr);
    }
}

}
