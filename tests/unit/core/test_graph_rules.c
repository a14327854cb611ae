/* Shape rules, one node at a time: what a row says, and that symbols, binding and plain numbers agree. */
#include "core/graph/graph.h"
#include "model_builder.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* want: the shapes of the outputs, or "!code" and a word of the message. */
struct row { const char *label, *op, *values, *attrs, *want; int64_t opset; int outputs; /* of a failing node, if not 1 */ };

#define ROW(a, b, c, d, e, ...) { .label = a, .op = b, .values = c, .attrs = d, .want = e, ##__VA_ARGS__ }
static const struct row rows[] = {
    ROW("equal shapes", "Add", "a:f32[2,3] b:f32[2,3]", "", "[2,3]"),
    ROW("broadcast both ways", "Add", "a:f32[batch,1,3] b:f32[4,1]", "", "[batch,4,3]"),
    ROW("scalar and tensor", "Mul", "a:f32[] b:f32[batch,4]", "", "[batch,4]"),
    ROW("number over symbol", "Sub", "a:f32[batch,197] b:f32[batch,seq]", "", "[batch,197]"),
    ROW("one under symbol", "Sub", "a:f32[batch,1] b:f32[1,seq]", "", "[batch,seq]"),
    ROW("two symbols: the larger", "Add", "a:f32[b] b:f32[s]", "", "[max(s,b)]"),
    ROW("empty under one", "Add", "a:f32[0] b:f32[1]", "", "[0]"),
    ROW("shapes that exclude each other", "Add", "a:f32[2,3] b:f32[2,4]", "", "!model.shape [2,3] and [2,4]"),
    ROW("types that differ", "Add", "a:f32[2] b:i64[2]", "", "!model.invalid float32"),
    ROW("a type the op does not take", "Sqrt", "a:i64[2]", "", "!model.unsupported_op int64"),
    ROW("variadic", "Max", "a:f32[b,1] b:f32[1,3] c:f32[]", "", "[b,3]"),
    ROW("comparison", "Less", "a:f32[b,2] b:f32[]", "", "[b,2]"),
    ROW("pow with an integer exponent", "Pow", "a:f32[b] b:i64()@1", "", "[b]"),
    ROW("where broadcasts three", "Where", "c:bool[b,1,1] x:f32[1,h,1] y:f32[w]", "", "[b,h,w]"),
    ROW("where needs bool", "Where", "c:f32[b] x:f32[b] y:f32[b]", "", "!model.unsupported_op"),
    ROW("cast", "Cast", "x:f32[b,2]", "to=7", "[b,2]"),
    ROW("cast to nowhere", "Cast", "x:f32[b,2]", "to=8", "!model.unsupported_op"),
    ROW("cast without a type", "Cast", "x:f32[b,2]", "", "!model.invalid 'to'"),
    ROW("gelu", "Gelu", "x:f32[b,2]", "approximate=tanh", "[b,2]", .opset = 20),
    ROW("gelu of an unknown kind", "Gelu", "x:f32[b,2]", "approximate=fast", "!model.unsupported_op", .opset = 20),
    ROW("clip", "Clip", "x:f32[b,2] lo:f32(0.5) hi:f32(1)", "", "[b,2]"),
    ROW("clip by a vector", "Clip", "x:f32[b,2] lo:f32{0,1}", "", "!model.shape"),

    ROW("constant of shape", "ConstantOfShape", "s:i64{2,0,3}", "", "[2,0,3]"),
    ROW("constant of a scalar shape", "ConstantOfShape", "s:i64{}", "", "[]"),
    ROW("constant of a negative shape", "ConstantOfShape", "s:i64{2,-3}", "", "!model.shape -3"),
    ROW("constant of a vast shape", "ConstantOfShape", "s:i64{1099511627776,1099511627776}", "", "!model.limit_exceeded"),
    ROW("range", "Range", "a:i64(2) b:i64(11) c:i64(3)", "", "[3]"),
    ROW("range down", "Range", "a:i64(5) b:i64(0) c:i64(-2)", "", "[3]"),
    ROW("empty range", "Range", "a:i64(5) b:i64(0) c:i64(1)", "", "[0]"),
    ROW("range of floats", "Range", "a:f32(0) b:f32(1) c:f32(0.25)", "", "[4]"),
    ROW("range without a step", "Range", "a:i64(5) b:i64(0) c:i64(0)", "", "!model.shape"),
    ROW("range of doubles", "Range", "a:f64(0) b:f64(1) c:f64(0.25)", "", "[4]"),
    ROW("constant of too many axes", "ConstantOfShape", "s:i64{1,1,1,1,1,1,1,1,1}", "", "!model.limit_exceeded rank 9"),
    ROW("range over everything", "Range", "a:i64(-9223372036854775808) b:i64(9223372036854775807) c:i64(1)", "", "!model.limit_exceeded"),

    ROW("shape", "Shape", "x:f32[b,3,s]", "", "[3]"),
    ROW("part of a shape", "Shape", "x:f32[b,3,s]", "start=-2 end=99", "[2]", .opset = 15),
    ROW("size", "Size", "x:f32[b,3,s]", "", "[]"),
    ROW("reshape with -1", "Reshape", "x:f32[b,197,576] s:i64{0,197,3,3,-1}", "", "[b,197,3,3,64]"),
    ROW("reshape merges symbols", "Reshape", "x:f32[b,197,3] s:i64{-1,3}", "", "[b*197,3]"),
    ROW("reshape of two symbols", "Reshape", "x:f32[b,s,8] s:i64{-1,8}", "", "[b*s,8]"),
    ROW("reshape keeps a quotient", "Reshape", "x:f32[b,3] s:i64{-1,2}", "", "[(b*3)/2,2]"),
    ROW("reshape of nothing", "Reshape", "x:f32[0,3] s:i64{-1,3}", "", "[0,3]"),
    ROW("reshape with zeros allowed", "Reshape", "x:f32[0,3] s:i64{3,0}", "allowzero=1", "[3,0]", .opset = 14),
    ROW("reshape that does not divide", "Reshape", "x:f32[2,3] s:i64{4,-1}", "", "!model.shape [2,3]"),
    ROW("reshape to another size", "Reshape", "x:f32[2,3] s:i64{5}", "", "!model.shape [5]"),
    ROW("reshape with -1 twice", "Reshape", "x:f32[2,3] s:i64{-1,-1}", "", "!model.shape twice"),
    ROW("reshape by -2", "Reshape", "x:f32[2,3] s:i64{-2,3}", "", "!model.shape -2"),
    ROW("reshape to a vast shape", "Reshape", "x:f32[2,3] s:i64{1099511627776,1099511627776}", "", "!model"),
    ROW("reshape to a vast dimension", "Reshape", "x:f32[b,3] s:i64{9223372036854775807}", "", "!model.limit_exceeded"),
    ROW("reshape copies a dimension that is not there", "Reshape", "x:f32[2] s:i64{2,0}", "", "!model.shape copies"),
    ROW("reshape to too many axes", "Reshape", "x:f32[2] s:i64{1,1,1,1,1,1,1,1,2}", "", "!model.limit_exceeded rank 9"),
    ROW("reshape of unknown rank copies what it cannot see", "Reshape", "x:f32[*] s:i64{0,6}", "", "[?0,6]"),
    ROW("flatten", "Flatten", "x:f32[b,3,s,2]", "axis=2", "[b*3,s*2]"),
    ROW("flatten at the ends", "Flatten", "x:f32[b,3]", "axis=-2", "[1,b*3]"),
    ROW("flatten beyond", "Flatten", "x:f32[b,3]", "axis=3", "!model.shape axis 3"),
    ROW("squeeze", "Squeeze", "x:f32[1,b,1,3] a:i64{0,-2}", "", "[b,3]"),
    ROW("squeeze all ones", "Squeeze", "x:f32[1,4,1,3]", "", "[4,3]"),
    ROW("squeeze of unknown ones", "Squeeze", "x:f32[1,b]", "", "[...]"),
    ROW("squeeze of a three", "Squeeze", "x:f32[b,3] a:i64{1}", "", "!model.shape axis 1"),
    ROW("squeeze beyond", "Squeeze", "x:f32[b,1] a:i64{2}", "", "!model.shape axis 2"),
    ROW("unsqueeze", "Unsqueeze", "x:f32[b,3] a:i64{0,-1}", "", "[1,b,3,1]"),
    ROW("unsqueeze an axis twice", "Unsqueeze", "x:f32[b,3] a:i64{0,-4}", "", "!model.shape twice"),
    ROW("unsqueeze beyond eight", "Unsqueeze", "x:f32[1,1,1,1,1,1,1,1] a:i64{0}", "", "!model.limit_exceeded"),
    ROW("transpose reverses", "Transpose", "x:f32[b,s,3]", "", "[3,s,b]"),
    ROW("transpose", "Transpose", "x:f32[b,197,3,64]", "perm=2,0,3,1", "[3,b,64,197]"),
    ROW("not a permutation", "Transpose", "x:f32[b,2,3]", "perm=0,2,2", "!model.shape permutation"),
    ROW("permutation of others", "Transpose", "x:f32[b,2,3]", "perm=0,1", "!model.shape perm"),
    ROW("concat", "Concat", "x:f32[b,1,192] y:f32[b,196,192]", "axis=1", "[b,197,192]"),
    ROW("concat symbols", "Concat", "x:f32[b,s] y:f32[b,t] z:f32[b,1]", "axis=-1", "[b,s+t+1]"),
    ROW("concat learns a number", "Concat", "x:f32[b,2] y:f32[4,s]", "axis=1", "[4,s+2]"),
    ROW("concat of shapes that differ", "Concat", "x:f32[2,3] y:f32[3,4]", "axis=1", "!model.shape axis 1"),
    ROW("concat of ranks that differ", "Concat", "x:f32[2,3] y:f32[3]", "axis=0", "!model.shape"),
    ROW("expand", "Expand", "x:f32[1,1,192] s:i64{4,1,1}", "", "[4,1,192]"),
    ROW("expand to fewer", "Expand", "x:f32[b,3,1] s:i64{5}", "", "[b,3,5]"),
    ROW("expand that does not fit", "Expand", "x:f32[2] s:i64{3}", "", "!model.shape"),
    ROW("expand to a vast shape", "Expand", "x:f32[1] s:i64{1099511627776,1099511627776,4}", "", "!model.limit_exceeded"),
    ROW("expand by -1", "Expand", "x:f32[1] s:i64{-1}", "", "!model.shape"),
    ROW("expand to too many axes", "Expand", "x:f32[1] s:i64{1,1,1,1,1,1,1,1,1}", "", "!model.limit_exceeded rank 9"),
    ROW("tile", "Tile", "x:f32[b,3] r:i64{2,4}", "", "[b*2,12]"),
    ROW("tile overflows", "Tile", "x:f32[4,3] r:i64{9223372036854775807,1}", "", "!model.limit_exceeded"),
    ROW("tile backwards", "Tile", "x:f32[4,3] r:i64{-1,1}", "", "!model.shape"),

    ROW("split evenly", "Split", "x:f32[b,9]", "axis=1", "[b,3] [b,3] [b,3]"),
    ROW("split a symbol", "Split", "x:f32[b,6]", "", "[b/2,6] [b/2,6]"),
    ROW("split by sizes", "Split", "x:f32[b,9] s:i64{2,7}", "axis=-1", "[b,2] [b,7]"),
    ROW("split unevenly", "Split", "x:f32[b,7]", "axis=1 num_outputs=3", "[b,3] [b,3] [b,1]", .opset = 18),
    ROW("split that does not divide", "Split", "x:f32[b,7]", "axis=1", "!model.shape 7", .outputs = 2),
    ROW("split sizes that do not sum", "Split", "x:f32[b,9] s:i64{2,6}", "axis=1", "!model.shape sum to 8", .outputs = 2),
    ROW("split sizes that overflow", "Split", "x:f32[b,9] s:i64{9223372036854775807,9223372036854775807}", "axis=1", "!model.shape", .outputs = 2),
    ROW("split by a negative size", "Split", "x:f32[b,9] s:i64{-1,10}", "axis=1", "!model.shape -1", .outputs = 2),
    ROW("split into another number", "Split", "x:f32[b,9] s:i64{3,3,3}", "axis=1", "!model.shape 3", .outputs = 2),
    ROW("split into a number that is not its outputs'", "Split", "x:f32[b,9]", "axis=1 num_outputs=2", "!model.shape num_outputs is 2", .opset = 18, .outputs = 3),

    ROW("slice", "Slice", "x:f32[b,10,4] s:i64{2,1} e:i64{8,3} a:i64{1,2}", "", "[b,6,2]"),
    ROW("slice to the end", "Slice", "x:f32[b,s] s:i64{1} e:i64{9223372036854775807} a:i64{1}", "", "[b,s-1]"),
    ROW("slice off the end", "Slice", "x:f32[b,s] s:i64{0} e:i64{-1} a:i64{1}", "", "[b,s-1]"),
    ROW("slice of a whole symbol", "Slice", "x:f32[b,s] s:i64{0} e:i64{2147483647} a:i64{1}", "", "[b,min(s,2147483647)]"),
    ROW("slice the first", "Slice", "x:f32[b,s] s:i64{0} e:i64{1} a:i64{1}", "", "[b,1]"),
    ROW("slice the last", "Slice", "x:f32[b,s] s:i64{-1} e:i64{9223372036854775807} a:i64{-1}", "", "[b,1]"),
    ROW("slice every third", "Slice", "x:f32[10,4] s:i64{0} e:i64{10} a:i64{0} t:i64{3}", "", "[4,4]"),
    ROW("slice every other of a symbol", "Slice", "x:f32[s] s:i64{0} e:i64{9223372036854775807} a:i64{0} t:i64{2}", "", "[(s+1)/2]"),
    ROW("slice backwards", "Slice", "x:f32[10] s:i64{-1} e:i64{-9223372036854775808} a:i64{0} t:i64{-1}", "", "[10]"),
    ROW("slice a symbol backwards", "Slice", "x:f32[s] s:i64{-1} e:i64{-9223372036854775807} a:i64{0} t:i64{-1}", "", "[s]"),
    ROW("slice backwards to INT_MAX, as ONNX Runtime does", "Slice", "x:f32[10] s:i64{4} e:i64{2147483647} a:i64{0} t:i64{-1}", "", "[5]"),
    ROW("slice backwards by three", "Slice", "x:f32[10] s:i64{7} e:i64{0} a:i64{0} t:i64{-3}", "", "[3]"),
    ROW("slice by the largest step", "Slice", "x:f32[10] s:i64{0} e:i64{10} a:i64{0} t:i64{9223372036854775807}", "", "[1]"),
    ROW("slice by the smallest step", "Slice", "x:f32[10] s:i64{9} e:i64{-9223372036854775808} a:i64{0} t:i64{-9223372036854775808}", "", "[1]"),
    ROW("slice of nothing", "Slice", "x:f32[10] s:i64{5} e:i64{3}", "", "[0]"),
    ROW("slice with extremes", "Slice", "x:f32[10] s:i64{-9223372036854775808} e:i64{9223372036854775807}", "", "[10]"),
    ROW("slice past an empty axis", "Slice", "x:f32[0] s:i64{-1} e:i64{9223372036854775807}", "", "[0]"),
    ROW("slice by int32", "Slice", "x:f32[b,10] s:i32{2} e:i32{8} a:i32{1}", "", "[b,6]"),
    ROW("slice by step 0", "Slice", "x:f32[10] s:i64{0} e:i64{3} a:i64{0} t:i64{0}", "", "!model.shape 0"),
    ROW("slice an axis twice", "Slice", "x:f32[10,4] s:i64{0,0} e:i64{3,3} a:i64{1,-1}", "", "!model.shape twice"),
    ROW("slice beyond", "Slice", "x:f32[10] s:i64{0} e:i64{3} a:i64{1}", "", "!model.shape axis 1"),
    ROW("slice lists that differ", "Slice", "x:f32[10,4] s:i64{0,0} e:i64{3}", "", "!model.shape entries"),
    ROW("slice more axes than there are", "Slice", "x:f32[10,4] s:i64{0,0,0} e:i64{3,3,3}", "", "!model.shape 3 starts"),
    ROW("slice more axes than a tensor has", "Slice", "x:f32[10] s:i64{0,0,0,0,0,0,0,0,0} e:i64{1}", "", "!model.shape 9 starts"),
    ROW("slice by lists of unknown length", "Slice", "x:f32[b,10] s:i64[n] e:i64[n]", "", "[?0,?1]"),
    ROW("slice on axes that are data", "Slice", "x:f32[b,10] s:i64{2} e:i64{8} a:i64[1]", "", "[?0,?1]"),

    ROW("gather rows", "Gather", "w:f32[512,64] i:i64[batch,seq]", "", "[batch,seq,64]"),
    ROW("gather one", "Gather", "w:f32[b,197,192] i:i64(0)", "axis=1", "[b,192]"),
    ROW("gather beyond", "Gather", "w:f32[b,197] i:i64(0)", "axis=2", "!model.shape axis 2"),
    ROW("gather by floats", "Gather", "w:f32[b,197] i:f32(0)", "", "!model.invalid"),
    ROW("gather to too many axes", "Gather", "w:f32[1,1,1,1,1,1] i:i64[1,1,1,1]", "", "!model.limit_exceeded rank 9"),
    ROW("gather an index out of range", "Gather", "w:i64{1,2,3} i:i64(3)", "", "!model.shape index 3"),
    ROW("gather a negative index out of range", "Gather", "w:i64{1,2,3} i:i64(-4)", "", "!model.shape index -4"),
    ROW("gather elements", "GatherElements", "w:f32[4,5] i:i64[2,9]", "axis=1", "[2,9]"),
    ROW("gather elements beyond", "GatherElements", "w:f32[4,5] i:i64[5,9]", "axis=1", "!model.shape"),
    ROW("gather by tuples", "GatherND", "w:f32[4,5] i:i64[2,1]", "", "[2,5]"),
    ROW("gather by tuples in batches", "GatherND", "w:f32[b,3,4] i:i64[b,1]", "batch_dims=1", "[b,4]"),
    ROW("gather by tuples in other batches", "GatherND", "w:f32[2,3] i:i64[3,1]", "batch_dims=1", "!model.shape [2,3] and [3,1]"),
    ROW("gather by tuples in no batches", "GatherND", "w:f32[2,3] i:i64[3,1]", "batch_dims=-1", "!model.shape batch_dims is -1"),
    ROW("gather by tuples too long", "GatherND", "w:f32[4,5] i:i64[2,3]", "", "!model.shape [2,3]"),
    ROW("gather by tuples to too many axes", "GatherND", "w:f32[1,1,1,1,1,1] i:i64[1,1,1,1,1]", "", "!model.limit_exceeded 8"),
    ROW("scatter by tuples", "ScatterND", "w:f32[4,5] i:i64[2,1] u:f32[2,5]", "reduction=max", "[4,5]", .opset = 18),
    ROW("scatter by tuples and an unknown rule", "ScatterND", "w:f32[4,5] i:i64[2,1] u:f32[2,5]", "reduction=sum", "!model.unsupported_op 'sum'", .opset = 18),
    ROW("scatter by tuples of other updates", "ScatterND", "w:f32[4,5] i:i64[2,1] u:f32[2,4]", "", "!model.shape [2,4]"),
    ROW("scatter by tuples of too many axes", "ScatterND", "w:f32[1,1,1,1,1,1] i:i64[1,1,1,1,1] u:f32[1]", "", "!model.limit_exceeded 8"),
    ROW("scatter elements beyond", "ScatterElements", "w:f32[4,5] i:i64[5,2] u:f32[5,2]", "axis=1", "!model.shape [5,2]", .opset = 18),
    ROW("one-hot by a double", "OneHot", "i:i64[b] d:f64(4) v:f32{0,1}", "", "[b,4]"),
    ROW("one-hot by a float", "OneHot", "i:i64[b] d:f32(4) v:f32{0,1}", "axis=0", "[4,b]"),
    ROW("one-hot to too many axes", "OneHot", "i:i64[1,1,1,1,1,1,1,1] d:i64(2) v:f32{0,1}", "", "!model.limit_exceeded 8"),
    ROW("one-hot of three values", "OneHot", "i:i64[b] d:i64(2) v:f32{0,1,2}", "", "!model.shape two"),
    ROW("top k of more than there are", "TopK", "x:f32[b,3] k:i64{4}", "", "!model.shape k is 4", .outputs = 2),
    ROW("top k by two numbers", "TopK", "x:f32[b,3] k:i64{1,2}", "", "!model.shape 2 elements", .outputs = 2),
    ROW("eye of text", "EyeLike", "x:f32[3,4]", "dtype=8", "!model.unsupported_op number 8"),
    ROW("depth to space", "DepthToSpace", "x:f32[b,12,h,4]", "blocksize=2", "[b,3,h*2,8]"),
    ROW("depth to space in another order", "DepthToSpace", "x:f32[b,12,4,4]", "blocksize=2 mode=RCD", "!model.unsupported_op 'RCD'"),
    ROW("depth to space of other channels", "DepthToSpace", "x:f32[b,6,4,4]", "blocksize=2", "!model.shape 2 by 2"),
    ROW("depth to space by nothing", "DepthToSpace", "x:f32[b,6,4,4]", "blocksize=0", "!model.shape blocksize is 0"),
    ROW("space to depth", "SpaceToDepth", "x:f32[b,3,h,4]", "blocksize=2", "[b,12,h/2,2]"),
    ROW("places of what is data", "NonZero", "x:f32[b,3]", "", "[2,?0]"),
    ROW("places of what is known", "NonZero", "x:f32{0,3,-0.0,0.5}", "", "[1,2]"),
    ROW("places of integers that are known", "NonZero", "x:i64{0,256,0,-1,1}", "", "[1,3]"),
    ROW("space to depth of an odd image", "SpaceToDepth", "x:f32[b,3,4,5]", "blocksize=2", "!model.shape 2 by 2"),
    ROW("pad", "Pad", "x:f32[b,4] p:i64{0,1,0,2}", "", "[b,7]"),
    ROW("pad chosen axes", "Pad", "x:f32[b,4,s] p:i64{1,2} v:f32(0) a:i64{-1}", "", "[b,4,s+3]", .opset = 18),
    ROW("pad away", "Pad", "x:f32[b,4] p:i64{0,-1,0,-2}", "", "[b,1]"),
    ROW("pad away too much", "Pad", "x:f32[b,4] p:i64{0,-3,0,-2}", "", "!model.shape -1"),
    ROW("pad overflows", "Pad", "x:f32[b,4] p:i64{0,9223372036854775807,0,9223372036854775807}", "", "!model.limit_exceeded"),
    ROW("pad by reflection", "Pad", "x:f32[b,4] p:i64{0,3,0,0}", "mode=reflect", "[b,7]"),
    ROW("pad by too much reflection", "Pad", "x:f32[b,4] p:i64{0,4,0,0}", "mode=reflect", "!model.shape reflect"),
    ROW("pad with too few", "Pad", "x:f32[b,4] p:i64{0,4}", "", "!model.shape"),
    ROW("pad in an unknown mode", "Pad", "x:f32[b,4] p:i64{0,1,0,0}", "mode=mirror", "!model.unsupported_op 'mirror'"),
    ROW("pad with a value of another type", "Pad", "x:f32[b,4] p:i64{0,1,0,0} v:i64(0)", "", "!model.invalid int64"),
    ROW("pad by what is data", "Pad", "x:f32[b,4] p:i64[4]", "", "[?0,?1]"),
    ROW("trilu", "Trilu", "x:f32[b,s,s] k:i64(1)", "upper=1", "[b,s,s]", .opset = 14),
    ROW("trilu of a vector", "Trilu", "x:f32[b]", "", "!model.shape", .opset = 14),
    ROW("cumsum", "CumSum", "x:f32[b,s] a:i64(-1)", "", "[b,s]"),
    ROW("cumsum beyond", "CumSum", "x:f32[b,s] a:i64(2)", "", "!model.shape axis 2"),

    ROW("matmul", "MatMul", "a:f32[b,197,192] w:f32[192,576]", "", "[b,197,576]"),
    ROW("matmul of batches", "MatMul", "a:f32[b,1,s,64] w:f32[3,64,s]", "", "[b,3,s,s]"),
    ROW("matmul of vectors", "MatMul", "a:f32[4] w:f32[4]", "", "[]"),
    ROW("vector by matrix", "MatMul", "a:f32[4] w:f32[b,4,5]", "", "[b,5]"),
    ROW("matrix by vector", "MatMul", "a:f32[b,3,4] w:f32[4]", "", "[b,3]"),
    ROW("matmul that does not fit", "MatMul", "a:f32[b,5] w:f32[4,3]", "", "!model.shape 5 and 4"),
    ROW("matmul of a scalar", "MatMul", "a:f32[] w:f32[4,3]", "", "!model.shape"),
    ROW("matmul of other batches", "MatMul", "a:f32[2,3,4] w:f32[5,4,3]", "", "!model.shape batch"),
    ROW("gemm", "Gemm", "a:f32[b,192] w:f32[1000,192] c:f32[1000]", "transB=1", "[b,1000]"),
    ROW("gemm transposed", "Gemm", "a:f32[192,b] w:f32[192,10]", "transA=1", "[b,10]"),
    ROW("gemm that does not fit", "Gemm", "a:f32[b,192] w:f32[1000,192]", "", "!model.shape inner"),
    ROW("gemm with another C", "Gemm", "a:f32[b,4] w:f32[4,5] c:f32[6]", "", "!model.shape C"),
    ROW("gemm of three axes", "Gemm", "a:f32[b,4,4] w:f32[4,5]", "", "!model.shape rank 2"),

    ROW("conv of patches", "Conv", "x:f32[batch,3,224,224] w:f32[192,3,16,16] b:f32[192]", "kernel_shape=16,16 strides=16,16", "[batch,192,14,14]"),
    ROW("conv over symbols", "Conv", "x:f32[b,3,h,w] w:f32[8,3,3,3]", "pads=1,1,1,1", "[b,8,h,w]"),
    ROW("conv by strides over a symbol", "Conv", "x:f32[b,3,h] w:f32[8,3,4]", "strides=4,", "[b,8,(h-4)/4+1]"),
    ROW("conv same", "Conv", "x:f32[b,3,7] w:f32[8,3,3]", "strides=2, auto_pad=SAME_UPPER", "[b,8,4]"),
    ROW("conv valid", "Conv", "x:f32[b,3,7] w:f32[8,3,3]", "strides=2, auto_pad=VALID", "[b,8,3]"),
    ROW("conv dilated", "Conv", "x:f32[b,3,10] w:f32[8,3,3]", "dilations=3,", "[b,8,4]"),
    ROW("conv in groups", "Conv", "x:f32[b,8,10] w:f32[8,1,3]", "group=8", "[b,8,8]"),
    ROW("conv of other channels", "Conv", "x:f32[b,4,10] w:f32[8,3,3]", "", "!model.shape channels"),
    ROW("conv in groups that do not divide", "Conv", "x:f32[b,4,10] w:f32[8,1,3]", "group=3", "!model.shape group"),
    ROW("conv smaller than its kernel", "Conv", "x:f32[b,3,2] w:f32[8,3,3]", "", "!model.shape kernel"),
    ROW("conv with vast dilation", "Conv", "x:f32[b,3,9] w:f32[8,3,3]", "dilations=9223372036854775807,", "!model.shape dilations"),
    ROW("conv with vast pads", "Conv", "x:f32[b,3,9] w:f32[8,3,3]", "pads=9223372036854775807,9223372036854775807", "!model.shape pads"),
    ROW("conv without strides", "Conv", "x:f32[b,3,9] w:f32[8,3,3]", "strides=0,", "!model.shape strides"),
    ROW("conv with a weight of unknown size", "Conv", "x:f32[b,3,9] w:f32[8,3,k]", "", "[b,8,?0]"),
    ROW("clip by what may be one number", "Clip", "x:f32[b,2] lo:f32[k]", "", "[b,2]"),
    ROW("conv in three dimensions", "Conv", "x:f32[b,3,9,9,9] w:f32[8,3,3,3,3]", "", "!model.unsupported_op"),
    ROW("conv with another kernel_shape", "Conv", "x:f32[b,3,9] w:f32[8,3,3]", "kernel_shape=5,", "!model.shape kernel_shape"),
    ROW("conv with an unknown auto_pad", "Conv", "x:f32[b,3,9] w:f32[8,3,3]", "auto_pad=FULL", "!model.invalid 'FULL'"),
    ROW("conv by an empty kernel", "Conv", "x:f32[b,3,9] w:f32[8,3,0]", "", "!model.shape no kernel"),

    ROW("max pool", "MaxPool", "x:f32[b,3,8,9]", "kernel_shape=2,3 strides=2,2", "[b,3,4,4]"),
    ROW("max pool and places", "MaxPool", "x:f32[b,3,8]", "kernel_shape=3, dilations=2, pads=1,1", "[b,3,6] [b,3,6]"),
    ROW("pool, rounded up", "MaxPool", "x:f32[b,3,8]", "kernel_shape=3, strides=2, ceil_mode=1", "[b,3,4]"),
    ROW("pool same", "AveragePool", "x:f32[b,3,7]", "kernel_shape=3, strides=2, auto_pad=SAME_LOWER", "[b,3,4]"),
    ROW("pool over a symbol", "AveragePool", "x:f32[b,3,h]", "kernel_shape=1,", "[b,3,?0]"),
    ROW("pool of rows", "MaxPool", "x:f32[b,3]", "kernel_shape=3,", "!model.unsupported_op [b,3]"),
    ROW("pool over four axes", "MaxPool", "x:f32[1,1,4,4,4,4]", "kernel_shape=1,1,1,1", "!model.unsupported_op three axes"),
    ROW("pool by a kernel of other axes", "MaxPool", "x:f32[b,3,8]", "kernel_shape=2,2", "!model.shape kernel"),
    ROW("pool by steps of 0", "MaxPool", "x:f32[b,3,8]", "kernel_shape=2, strides=0,", "!model.shape strides"),
    ROW("pool smaller than its kernel", "MaxPool", "x:f32[b,3,8,2]", "kernel_shape=3,3", "!model.shape spatial axis 1"),

    ROW("resize by scales", "Resize", "x:f32[b,3,8,9] r:f32{} k:f32{1,1,2,0.5}", "", "[b,3,16,4]"),
    ROW("resize by scales that are rounded", "Resize", "x:f32[b,3,14,14] r:f32{} k:f32{1,1,2.64285707,0.78571427}", "", "[b,3,37,11]"),
    ROW("resize a symbol by a scale", "Resize", "x:f32[b,3,h] r:f32{} k:f32{1,1,2}", "", "[b,3,?0]"),
    ROW("resize by scales that are data", "Resize", "x:f32[b,3,8] r:f32{} k:f32[3]", "", "[?0,?1,?2]"),
    ROW("resize to sizes", "Resize", "x:f32[2,3,8] r:f32{} k:f32{} s:i64{2,3,20}", "mode=linear", "[2,3,20]"),
    ROW("resize a symbol to sizes", "Resize", "x:f32[b,3,8] r:f32{} k:f32{} s:i64{2,3,20}", "", "[2,3,20]"),
    ROW("resize to sizes that are data", "Resize", "x:f32[b,3,8] r:f32{} k:f32{} s:i64[3]", "", "[?0,?1,?2]"),
    ROW("resize chosen axes", "Resize", "x:f32[b,3,8,8] r:f32{} k:f32{} s:i64{4,6}", "axes=2,3", "[b,3,4,6]", .opset = 18),
    ROW("resize within", "Resize", "x:f32[b,3,8,16] r:f32{} k:f32{} s:i64{4,4}", "axes=2,3 keep_aspect_ratio_policy=not_larger", "[b,3,2,4]", .opset = 18),
    ROW("resize to cover", "Resize", "x:f32[b,3,8,16] r:f32{} k:f32{} s:i64{4,4}", "axes=2,3 keep_aspect_ratio_policy=not_smaller", "[b,3,4,8]", .opset = 18),
    ROW("resize an axis twice", "Resize", "x:f32[b,3,8,8] r:f32{} k:f32{} s:i64{4,6}", "axes=2,-2", "!model.shape twice", .opset = 18),
    ROW("resize by area", "Resize", "x:f32[b,3,8] r:f32{} k:f32{1,1,2}", "mode=area", "!model.unsupported_op 'area'"),
    ROW("resize by unknown coordinates", "Resize", "x:f32[b,3,8] r:f32{} k:f32{1,1,2}", "coordinate_transformation_mode=half", "!model.unsupported_op 'half'"),
    ROW("resize to an unknown nearest", "Resize", "x:f32[b,3,8] r:f32{} k:f32{1,1,2}", "nearest_mode=round", "!model.unsupported_op 'round'"),
    ROW("resize by an unknown policy", "Resize", "x:f32[b,3,8] r:f32{} k:f32{} s:i64{1,3,4}", "keep_aspect_ratio_policy=fit", "!model.unsupported_op 'fit'", .opset = 18),
    ROW("resize to nothing", "Resize", "x:f32[b,3,8]", "", "!model.invalid neither"),
    ROW("resize by doubles", "Resize", "x:f32[b,3,8] r:f32{} k:f64{1,1,2}", "", "!model.unsupported_op float64"),
    ROW("resize to sizes that are real", "Resize", "x:f32[b,3,8] r:f32{} k:f32{} s:f32{1,3,4}", "", "!model.invalid"),
    ROW("resize to too few sizes", "Resize", "x:f32[b,3,8] r:f32{} k:f32{} s:i64{3,4}", "", "!model.shape 3 axes"),
    ROW("resize to a vast image", "Resize", "x:f32[1,3,1000000] r:f32{} k:f32{1,1,1e8}", "", "!model.limit_exceeded"),

    ROW("einsum of a product", "Einsum", "a:f32[b,s,4] w:f32[4,5]", "equation=bij,jk->bik", "[b,s,5]"),
    ROW("einsum of three", "Einsum", "a:f32[b,4] w:f32[4,5] c:f32[5]", "equation=bi,ij,j->b", "[b]"),
    ROW("einsum without an output", "Einsum", "a:f32[b,4] w:f32[4,5]", "equation=zi,ia", "[5,b]"),
    ROW("einsum with a one", "Einsum", "a:f32[b,1] w:f32[b,5]", "equation=bi,bi->i", "[5]"),
    ROW("einsum of lengths that differ", "Einsum", "a:f32[b,3] w:f32[4,5] c:f32[5]", "equation=bi,ij,j->b", "!model.shape lengths 3 and 4"),
    ROW("einsum with too few terms", "Einsum", "a:f32[b,3] w:f32[3,5]", "equation=bi->b", "!model.unsupported_op term for each input"),
    ROW("einsum with too few letters", "Einsum", "a:f32[b,3] w:f32[3,5]", "equation=b,ij->bj", "!model.unsupported_op letter for each dimension"),
    ROW("einsum with a digit", "Einsum", "a:f32[b,3] w:f32[3,5]", "equation=b1,1j->bj", "!model.unsupported_op is none"),
    ROW("einsum with a letter from nowhere", "Einsum", "a:f32[b,3]", "equation=bi->bz", "!model.unsupported_op no input has"),
    ROW("einsum with an output's letter twice", "Einsum", "a:f32[b,3]", "equation=bi->bb", "!model.unsupported_op repeats"),
    ROW("einsum with two dots", "Einsum", "a:f32[b,3]", "equation=b..->b", "!model.unsupported_op ellipsis"),
    ROW("einsum with more letters than dimensions", "Einsum", "a:f32[b,3]", "equation=bij...->b", "!model.unsupported_op ellipsis"),

    ROW("softmax", "Softmax", "x:f32[b,s]", "axis=-1", "[b,s]"),
    ROW("softmax beyond", "Softmax", "x:f32[b,s]", "axis=2", "!model.shape axis 2"),
    ROW("softmax of a scalar", "Softmax", "x:f32[]", "", "!model.shape"),
    ROW("layernorm", "LayerNormalization", "x:f32[b,s,192] g:f32[192] b:f32[192]", "axis=-1", "[b,s,192]", .opset = 17),
    ROW("layernorm over a symbol", "LayerNormalization", "x:f32[b,s,192] g:f32[192]", "axis=1", "[b,s,192]", .opset = 17),
    ROW("layernorm statistics", "LayerNormalization", "x:f32[b,4,3] g:f32[4,3]", "axis=1", "[b,4,3] [b,1,1] [b,1,1]", .opset = 17),
    ROW("layernorm of another length", "LayerNormalization", "x:f32[b,192] g:f32[191]", "", "!model.shape [191]", .opset = 17),
    ROW("layernorm by a scalar scale", "LayerNormalization", "x:f32[b,192] g:f32[1]", "", "!model.shape [1]", .opset = 17),
    ROW("rmsnorm", "RMSNormalization", "x:f32[b,192] g:f32[192]", "", "[b,192]", .opset = 23),
    ROW("mean by attribute", "ReduceMean", "x:f32[b,s,3]", "axes=-1,", "[b,s,1]", .opset = 13),
    ROW("mean by input", "ReduceMean", "x:f32[b,s,3] a:i64{1}", "keepdims=0", "[b,3]", .opset = 18),
    ROW("mean of all", "ReduceMean", "x:f32[b,s,3]", "keepdims=0", "[]", .opset = 18),
    ROW("mean of none", "ReduceMean", "x:f32[b,s,3]", "noop_with_empty_axes=1", "[b,s,3]", .opset = 18),
    ROW("sum of an axis twice", "ReduceSum", "x:f32[b,s] a:i64{1,-1}", "", "!model.shape twice", .opset = 13),
    ROW("max beyond", "ReduceMax", "x:f32[b,s] a:i64{2}", "", "!model.shape axis 2", .opset = 18),
    ROW("argmax", "ArgMax", "x:f32[b,s,3]", "axis=1 keepdims=0", "[b,3]"),
    ROW("argmax of nothing", "ArgMax", "x:f32[b,0]", "axis=1", "!model.shape empty"),

    ROW("quantize", "QuantizeLinear", "x:f32[b,s] s:f32(0.5) z:u8(3)", "", "[b,s]"),
    ROW("quantize by channel", "QuantizeLinear", "x:f32[b,3] s:f32[3] z:i8[3]", "axis=1", "[b,3]"),
    ROW("quantize by other channels", "QuantizeLinear", "x:f32[b,3] s:f32[4] z:i8[4]", "axis=1", "!model.shape axis 1"),
    ROW("dequantize", "DequantizeLinear", "x:i8[3,4] s:f32[3]", "axis=0", "[3,4]"),
    ROW("dequantize int4 in blocks", "DequantizeLinear", "x:i4{0}@64,8 s:f32[2,8]", "axis=0 block_size=32", "[64,8]", .opset = 21),
    ROW("dequantize in other blocks", "DequantizeLinear", "x:i8[64,8] s:f32[3,8]", "axis=0 block_size=32", "!model.shape blocks", .opset = 21),
    ROW("dequantize by the smallest block", "DequantizeLinear", "x:i8[64,8] s:f32[3,8]", "axis=0 block_size=-9223372036854775808", "!model.shape blocks", .opset = 21),
    ROW("another zero point type", "DequantizeLinear", "x:i8[3,4] s:f32(1) z:u8(1)", "", "!model.invalid"),
    ROW("quantize to two types", "QuantizeLinear", "x:f32[b,s] s:f32(0.5) z:u8(3)", "output_dtype=3", "!model.invalid int8", .opset = 21),

    ROW("unknown rank passes through", "Relu", "x:f32[*]", "", "[...]"),
    ROW("shape of unknown rank", "Shape", "x:f32[*]", "", "[?0]"),
    ROW("reshape of unknown rank", "Reshape", "x:f32[*] s:i64{2,-1}", "", "[2,?0]"),
    ROW("reshape to unknown rank", "Reshape", "x:f32[b,4] s:i64[n]", "", "[...]"),
    ROW("size of unknown rank", "Size", "x:f32[*]", "", "[]"),
    ROW("reshape to data", "Reshape", "x:f32[b,4] s:i64[2]", "", "[?0,?1]"),
    ROW("unnamed dimensions", "Relu", "x:f32[?,3]", "", "[x[0],3]"),
};
enum { ROWS = sizeof rows / sizeof rows[0] };

/* Names of a row's values, in order: the node's inputs. */
static void names_of(const char *values, char *ret, size_t size)
{
    size_t n = 0;
    for (values += strspn(values, " "); *values; values += strspn(values, " ")) {
        n += (size_t)snprintf(ret + n, size - n, "%.*s ", (int)strcspn(values, ":"), values);
        values += strcspn(values, " ");
    }
}

/* How many outputs a row's node has: one for each wanted shape. */
static int outputs_of(const struct row *r)
{
    int n = 0;
    if (r->want[0] == '!')
        return r->outputs ? r->outputs : 1;
    for (const char *c = r->want; *c; c++)
        n += *c == '[' && (c == r->want || c[-1] == ' ');
    return n;
}

static struct graph *load_row(const struct row *r, int64_t fixed, struct builder **ret_b, struct err *e)
{
    char names[200] = "", outputs[100] = "";
    struct builder *b = *ret_b = mb_new(r->opset ? r->opset : 17);
    b->fixed = fixed;
    mb_values(b, r->values);
    names_of(r->values, names, sizeof names);
    for (int i = 0; i < outputs_of(r); i++)
        snprintf(outputs + strlen(outputs), sizeof outputs - strlen(outputs), "y%d ", i);
    mb_node(b, r->op, names, outputs, r->attrs);
    mb_output(b, outputs);
    return graph_load(b->mem, mb_model(b), NULL, e);
}

static void check_error(const struct row *r, const struct graph *g, const struct err *e)
{
    size_t n = strcspn(r->want + 1, " ");
    const char *word = r->want + 1 + n + (r->want[1 + n] == ' ');
    if (g || strncmp(err_slug(e->code), r->want + 1, n) != 0 || !strstr(e->text, word))
        fail_msg("%s: got %s: %s: %s", r->label, g ? "a graph" : err_slug(e->code), e->where, e->text);
    assert_non_null(strstr(e->where, r->op));
}

static void every_rule_gives_the_shape_or_the_error_its_row_says(void **state)
{
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        struct err e = { 0 };
        struct builder *b;
        struct graph *g = load_row(&rows[i], 0, &b, &e);
        char got[400] = "", text[100];
        if (rows[i].want[0] == '!') {
            check_error(&rows[i], g, &e);
        } else {
            if (!g)
                fail_msg("%s: %s: %s", rows[i].label, e.where, e.text);
            for (int k = 0; k < g->n_outputs; k++)
                snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s", k ? " " : "",
                         graph_shape_text(g, &g->values[g->outputs[k]].shape, text, sizeof text));
            if (strcmp(got, rows[i].want) != 0)
                fail_msg("%s: %s, not %s", rows[i].label, got, rows[i].want);
        }
        mb_free(b);
    }
}

/* ---- laws ---- */

static bool bind_all(const struct graph *g, struct arena *mem, int64_t length, struct facts *f, struct err *e)
{
    struct shape shapes[16];
    for (int i = 0; i < g->n_inputs; i++) {
        shapes[i] = g->values[g->inputs[i]].shape;
        if (shapes[i].rank < 0)
            shapes[i] = (struct shape){ .rank = 2, .dim = { 4, 6 } };
        for (int k = 0; k < shapes[i].rank; k++)
            if (shapes[i].dim[k] < 0)
                shapes[i].dim[k] = length;
    }
    return graph_bind(g, mem, shapes, NULL, f, e);
}

/* What symbols promised holds for numbers: numbers stay, equal symbols are equal numbers. */
static void check_promises(const struct row *r, const struct graph *g, const struct facts *f)
{
    int64_t length[64];
    for (int i = 0; i < 64; i++)
        length[i] = -1;
    for (int v = 0; v < g->n_values; v++) {
        const struct shape *s = &g->values[v].shape, *t = &f->shape[v];
        if (s->rank >= 0 && s->rank != t->rank)
            fail_msg("%s: rank %d was promised, %d came", r->label, s->rank, t->rank);
        for (int i = 0; i < s->rank; i++) {
            int64_t want = s->dim[i] >= 0 ? s->dim[i] : length[-1 - s->dim[i]];
            if (t->dim[i] < 0 || (want >= 0 && want != t->dim[i]))
                fail_msg("%s: %s of %d is %lld, not %lld", r->label, g->values[v].name, i, (long long)t->dim[i], (long long)want);
            if (s->dim[i] < 0)
                length[-1 - s->dim[i]] = t->dim[i];
        }
    }
}

static void same_outputs(const struct row *r, const struct graph *fixed, const struct graph *g, const struct facts *f)
{
    for (int k = 0; k < g->n_outputs; k++) {
        const struct shape *a = &fixed->values[fixed->outputs[k]].shape, *b = &f->shape[g->outputs[k]];
        for (int i = 0; i < a->rank; i++)
            if (a->rank != b->rank || (a->dim[i] >= 0 && a->dim[i] != b->dim[i]))
                fail_msg("%s: output %d differs between numbers given early and late", r->label, k);
    }
}

static void binding_symbols_equals_inferring_with_numbers(void **state)
{
    (void)state;
    static const int64_t lengths[] = { 1, 2, 5, 12 };
    for (int i = 0; i < ROWS * 4; i++) {
        const struct row *r = &rows[i / 4];
        struct err e = { 0 }, e_fixed = { 0 };
        struct builder *b, *b_fixed;
        struct facts f;
        struct graph *g = load_row(r, 0, &b, &e), *fixed = load_row(r, lengths[i % 4], &b_fixed, &e_fixed);
        bool bound = g && bind_all(g, b->mem, lengths[i % 4], &f, &e);
        if (g && bound != (fixed != NULL) && e.code != ERR_MODEL_UNBOUND)
            fail_msg("%s at %d: bound: %s %s, with numbers: %s %s", r->label, (int)lengths[i % 4], err_slug(e.code), e.text,
                     err_slug(e_fixed.code), e_fixed.text);
        if (bound) {
            check_promises(r, g, &f);
            same_outputs(r, fixed, g, &f);
        }
        mb_free(b);
        mb_free(b_fixed);
    }
}

static void a_shape_that_depends_on_data_is_unbound_and_names_the_node(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct builder *b = mb_new(17);
    struct facts f;
    mb_values(b, "x:f32[b,4] s:i64[2]");
    mb_node(b, "Reshape", "x s", "y", "");
    mb_output(b, "y");
    struct graph *g = graph_load(b->mem, mb_model(b), NULL, &e);
    assert_non_null(g);
    assert_false(bind_all(g, b->mem, 2, &f, &e));
    assert_int_equal(e.code, ERR_MODEL_UNBOUND);
    assert_string_equal(e.where, "node 0 (Reshape)");
    mb_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rule_gives_the_shape_or_the_error_its_row_says),
        cmocka_unit_test(binding_symbols_equals_inferring_with_numbers),
        cmocka_unit_test(a_shape_that_depends_on_data_is_unbound_and_names_the_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
