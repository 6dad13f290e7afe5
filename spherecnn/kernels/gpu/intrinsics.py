"""Instructions that numba.cuda has no name for: moves of 16 bytes, tensor cores, asynchronous copies, integer atomics.

Pointers are raw ("f4*" arguments) or shared arrays; an index counts elements. Each function here has an emulator of
the same name in `tests/cuda/emulators.py`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from spherecnn.kernels.cuda import RequireLiteralValue, cgutils, float32, int32, intrinsic, types, uint32

I32, I64, F32, VOID = ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.VoidType()


# --- helpers of the emitters -----------------------------------------------------------------------------------


def _address(context: Any, builder: Any, kind: Any, array: Any, index: Any, index_kind: Any) -> Any:
    """The address of element `index`: no check, and no wrapping of negative numbers."""
    base = array if isinstance(kind, types.CPointer) else context.make_array(kind)(context, builder, array).data
    if index_kind.bitwidth < 64:
        index = builder.sext(index, I64) if index_kind.signed else builder.zext(index, I64)
    return builder.gep(base, [index], inbounds=True)


def _shared(builder: Any, pointer: Any) -> Any:
    """A pointer to shared memory as the 32-bit address that instructions take."""
    return builder.ptrtoint(builder.addrspacecast(pointer, ir.PointerType(pointer.type.pointee, 3)), I32)


def _global(builder: Any, pointer: Any) -> Any:
    """A pointer to global memory as a 64-bit address."""
    return builder.ptrtoint(builder.addrspacecast(pointer, ir.PointerType(pointer.type.pointee, 1)), I64)


def _asm(
    builder: Any, result: Any, kinds: Any, text: str, constraints: str, args: Any, side_effect: bool = False
) -> Any:
    code = ir.InlineAsm(ir.FunctionType(result, kinds), text, constraints, side_effect=side_effect)
    return builder.call(code, args)


def _tuple(builder: Any, struct: Any, count: int) -> Any:
    return cgutils.pack_array(builder, [builder.extract_value(struct, i) for i in range(count)])


def _vector(builder: Any, pointer: Any, lanes: int) -> Any:
    return builder.bitcast(pointer, ir.VectorType(pointer.type.pointee, lanes).as_pointer())


def _indexed(array: Any, index: Any) -> bool:
    return isinstance(array, (types.Array, types.CPointer)) and isinstance(index, types.Integer)


# --- numbers ---------------------------------------------------------------------------------------------------


def _one_instruction(text: str, result: Any, kinds: tuple[Any, ...], constraints: str) -> Any:
    """Signature and emitter of an instruction of numbers."""
    native = {float32: F32, uint32: I32, int32: I32}

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _asm(builder, native[result], [native[k] for k in kinds], text, constraints, args)

    return result(*kinds), emit


@intrinsic
def f32_bits(typing, x):
    """The bits of a float32, as uint32."""
    return uint32(float32), lambda context, builder, signature, args: builder.bitcast(args[0], I32)


@intrinsic
def bits_f32(typing, x):
    """The float32 of the bits of a uint32."""
    return float32(uint32), lambda context, builder, signature, args: builder.bitcast(args[0], F32)


@intrinsic
def divide(typing, a, b):
    """a / b to 2 units in the last place (within 2^126 of 1), without a subroutine."""
    return _one_instruction("div.full.f32 $0, $1, $2;", float32, (float32, float32), "=f,f,f")


@intrinsic
def reciprocal(typing, a):
    """1 / a to 1 unit in the last place."""
    return _one_instruction("rcp.approx.f32 $0, $1;", float32, (float32,), "=f,f")


@intrinsic
def square_root(typing, a):
    """The root of a to 1 unit in the last place; NaN below 0."""
    return _one_instruction("sqrt.approx.f32 $0, $1;", float32, (float32,), "=f,f")


@intrinsic
def cvt_tf32(typing, x):
    """Round a float32 to the 10 digits of TF32, to nearest; the result stands in the upper bits."""
    return _one_instruction("cvt.rna.tf32.f32 $0, $1;", uint32, (float32,), "=r,f")


@intrinsic
def pack_bf16x2(typing, high, low):
    """Round two float32 to bfloat16, and put them in one word."""
    return _one_instruction("cvt.rn.bf16x2.f32 $0, $1, $2;", uint32, (float32, float32), "=r,f,f")


@intrinsic
def multiply_high(typing, a, b):
    """The upper 32 bits of a product of two uint32."""
    return _one_instruction("mul.hi.u32 $0, $1, $2;", uint32, (uint32, uint32), "=r,r,r")


@intrinsic
def quotient(typing, a, b):
    """a // b of whole numbers from 0 to 2^31, in 32 bits; b above 0."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.udiv(args[0], args[1])

    return int32(int32, int32), emit


# --- loads and stores ------------------------------------------------------------------------------------------


@intrinsic
def ld1(typing, array, index):
    """array[index]."""
    if not _indexed(array, index):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, signature.args[0], args[0], args[1], signature.args[1]))

    return array.dtype(array, index), emit


@intrinsic
def st1(typing, array, index, value):
    """array[index] = value."""
    if not _indexed(array, index):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to = _address(context, builder, signature.args[0], args[0], args[1], signature.args[1])
        builder.store(args[2], to)
        return context.get_dummy_value()

    return types.void(array, index, array.dtype), emit


@intrinsic
def advance(typing, array, count):
    """The pointer to array[count] of global memory, for indices of 32 bits from there on."""
    if not (isinstance(array, types.CPointer) and isinstance(count, types.Integer)):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = _address(context, builder, signature.args[0], args[0], args[1], signature.args[1])
        # By an instruction, so that the sum is not taken apart again at every use.
        moved = _asm(builder, I64, [I64], "mov.b64 $0, $1;", "=l,l", [_global(builder, at)])
        return builder.addrspacecast(builder.inttoptr(moved, ir.PointerType(at.type.pointee, 1)), at.type)

    return array(array, count), emit


def _load(lanes: int) -> Any:
    def typed(typing: Any, array: Any, index: Any) -> Any:
        if not _indexed(array, index):
            return None

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            at = _address(context, builder, signature.args[0], args[0], args[1], signature.args[1])
            vector = builder.load(_vector(builder, at, lanes))
            vector.align = 4 * lanes
            return cgutils.pack_array(builder, [builder.extract_element(vector, I32(i)) for i in range(lanes)])

        return types.UniTuple(array.dtype, lanes)(array, index), emit

    return typed


def _store(array: Any, index: Any, count: int) -> Any:
    if not _indexed(array, index):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = _address(context, builder, signature.args[0], args[0], args[1], signature.args[1])
        vector = ir.Constant(ir.VectorType(at.type.pointee, count), ir.Undefined)
        for i in range(count):
            vector = builder.insert_element(vector, args[2 + i], I32(i))
        builder.store(vector, _vector(builder, at, count)).align = 4 * count
        return context.get_dummy_value()

    return types.void(array, index, *[array.dtype] * count), emit


@intrinsic
def load2(typing, array, index):
    """Two elements of 4 bytes by one load; &array[index] is a multiple of 8."""
    return _load(2)(typing, array, index)


@intrinsic
def load4(typing, array, index):
    """Four elements of 4 bytes by one load; &array[index] is a multiple of 16."""
    return _load(4)(typing, array, index)


@intrinsic
def load4_nc(typing, array, index):
    """`load4` of global float32 that this kernel does not write."""
    if not _indexed(array, index):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = _global(builder, _address(context, builder, signature.args[0], args[0], args[1], signature.args[1]))
        struct = ir.LiteralStructType([F32] * 4)
        text, constraints = "ld.global.nc.v4.f32 {$0,$1,$2,$3}, [$4];", "=f,=f,=f,=f,l"
        return _tuple(builder, _asm(builder, struct, [I64], text, constraints, [at]), 4)

    return types.UniTuple(float32, 4)(array, index), emit


def _load_if(lanes: int) -> Any:
    """Loads of global float32 that the kernel does not write, or zeros, without a branch."""
    names = [f"${i}" for i in range(lanes)]
    at, there = f"${lanes}", f"${lanes + 1}"
    zeros = " ".join(f"mov.f32 {name}, 0f00000000;" for name in names)
    move = f"v4.f32 {{{','.join(names)}}}" if lanes == 4 else "f32 $0"
    text = f"{{ .reg .pred p; setp.ge.s32 p, {there}, 0; {zeros} @p ld.global.nc.{move}, [{at}]; }}"
    constraints = ",".join(["=&f"] * lanes + ["l", "r"])

    def typed(typing: Any, array: Any, index: Any) -> Any:
        if not _indexed(array, index):
            return None

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            at = _global(builder, _address(context, builder, signature.args[0], args[0], args[1], signature.args[1]))
            kinds = ir.LiteralStructType([F32] * lanes) if lanes > 1 else F32
            made = _asm(builder, kinds, [I64, I32], text, constraints, [at, args[2]])
            return _tuple(builder, made, lanes) if lanes > 1 else made

        result = types.UniTuple(float32, lanes) if lanes > 1 else float32
        return result(array, index, int32), emit

    return typed


@intrinsic
def ld1_if(typing, array, index, there):
    """array[index] of global float32 that this kernel does not write; 0 if `there` is negative."""
    return _load_if(1)(typing, array, index)


@intrinsic
def load4_if(typing, array, index, there):
    """`load4_nc`, or zeros if `there` is negative; the address then need not be one."""
    return _load_if(4)(typing, array, index)


@intrinsic
def st2(typing, array, index, a, b):
    """Two elements of 4 bytes by one store; &array[index] is a multiple of 8."""
    return _store(array, index, 2)


@intrinsic
def store4(typing, array, index, a, b, c, d):
    """Four elements of 4 bytes by one store; &array[index] is a multiple of 16."""
    return _store(array, index, 4)


@intrinsic
def pointer_at(typing, table, index):
    """The pointer to float32 whose address stands in two uint32 of a table, the lower word first."""
    if not (_indexed(table, index) and table.dtype == uint32):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = _address(context, builder, signature.args[0], args[0], args[1], signature.args[1])
        address = builder.load(builder.bitcast(at, I64.as_pointer()))
        # Told that it is global memory, the compiler takes LDG and STG.
        near = builder.inttoptr(address, ir.PointerType(F32, 1))
        return builder.addrspacecast(near, F32.as_pointer())

    return types.CPointer(float32)(table, index), emit


# --- tensor cores ----------------------------------------------------------------------------------------------


def _mma(instruction: str) -> Any:
    """D (16 x 8) = A (16 x k) B (k x 8) + C by the 32 threads of a warp; see the PTX manual for who holds what."""
    d, a, b, c = (",".join(f"${first + i}" for i in range(n)) for first, n in ((0, 4), (4, 4), (8, 2), (10, 4)))
    text = f"{instruction} {{{d}}}, {{{a}}}, {{{b}}}, {{{c}}};"
    constraints = ",".join(["=f"] * 4 + ["r"] * 6 + ["f"] * 4)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        struct = ir.LiteralStructType([F32] * 4)
        return _tuple(builder, _asm(builder, struct, [I32] * 6 + [F32] * 4, text, constraints, args), 4)

    return types.UniTuple(float32, 4)(*[uint32] * 6, *[float32] * 4), emit


@intrinsic
def mma_tf32(typing, a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
    """One 16 x 8 x 8 product of TF32 numbers, summed in float32."""
    return _mma("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32")


@intrinsic
def mma_bf16(typing, a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
    """One 16 x 8 x 16 product of bfloat16 numbers, two to a word, summed in float32."""
    return _mma("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32")


@intrinsic
def ldmatrix_x4(typing, array, index):
    """Four 8 x 8 matrices of 2 bytes (8 x 4 of 4 bytes) from shared memory, a row named by each thread."""
    if not _indexed(array, index):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = _shared(builder, _address(context, builder, signature.args[0], args[0], args[1], signature.args[1]))
        struct = ir.LiteralStructType([I32] * 4)
        text = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$0,$1,$2,$3}, [$4];"
        loaded = _asm(builder, struct, [I32], text, "=r,=r,=r,=r,r,~{memory}", [at], side_effect=True)
        return _tuple(builder, loaded, 4)

    return types.UniTuple(uint32, 4)(array, index), emit


# --- asynchronous copies from global to shared memory ----------------------------------------------------------


def _cp_async(shared: Any, at: Any, source: Any, start: Any, count: Any, size: int, cache: str) -> Any:
    if not (_indexed(shared, at) and _indexed(source, start)):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        to = _shared(builder, _address(context, builder, kinds[0], args[0], args[1], kinds[1]))
        read = _global(builder, _address(context, builder, kinds[2], args[2], args[3], kinds[3]))
        text = f"cp.async.{cache}.shared.global [$0], [$1], {size}, $2;"
        _asm(builder, VOID, [I32, I64, I32], text, "r,l,r,~{memory}", [to, read, args[4]], side_effect=True)
        return context.get_dummy_value()

    return types.void(shared, at, source, start, int32), emit


@intrinsic
def cp_async16(typing, shared, at, source, start, count):
    """Begin to copy 16 bytes, of which `count` are read and the rest is zero; both addresses are multiples of 16."""
    return _cp_async(shared, at, source, start, count, 16, "cg")


@intrinsic
def cp_async4(typing, shared, at, source, start, count):
    """Begin to copy 4 bytes, or with count 0 a zero."""
    return _cp_async(shared, at, source, start, count, 4, "ca")


def _order(text: str) -> Any:
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _asm(builder, VOID, [], text, "~{memory}", [], side_effect=True)
        return context.get_dummy_value()

    return emit


@intrinsic
def cp_async_commit(typing):
    """End a group of this thread's copies."""
    return types.void(), _order("cp.async.commit_group;")


@intrinsic
def cp_async_wait(typing, groups):
    """Wait until at most so many groups of this thread are under way; a number in the source."""
    if not isinstance(groups, types.IntegerLiteral):
        raise RequireLiteralValue("cp_async_wait takes a literal")
    return types.void(groups), _order(f"cp.async.wait_group {groups.literal_value};")


# --- integer atomics -------------------------------------------------------------------------------------------


def _atomic(operation: str, array: Any, index: Any) -> Any:
    if not _indexed(array, index):
        return None

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = _address(context, builder, signature.args[0], args[0], args[1], signature.args[1])
        return builder.atomic_rmw(operation, at, args[2], "monotonic")

    return int32(array, index, int32), emit


@intrinsic
def atomic_exchange(typing, array, index, value):
    """Put an int32 in its place and return what stood there."""
    return _atomic("xchg", array, index)


@intrinsic
def atomic_add_int(typing, array, index, value):
    """Add to an int32 and return what stood there."""
    return _atomic("add", array, index)


@intrinsic
def atomic_min_int(typing, array, index, value):
    """Keep the smaller int32 and return what stood there."""
    return _atomic("min", array, index)
