// Read samples.npz, the uncompressed NumPy archive that `dfq-deploy calibrate` writes (docs/formats.md).

const ARRAYS = { '<f4': Float32Array, '<f8': Float64Array, '|u1': Uint8Array, '<i4': Int32Array, '<i8': BigInt64Array };

/** Map each member of an archive to {data, shape}; members of other types, such as text, are left out. */
export function readNpz(buffer) {
  const view = new DataView(buffer), arrays = {};
  for (const { name, start, size } of members(view)) {
    const array = readNpy(buffer.slice(start, start + size));
    if (array) arrays[name.replace(/\.npy$/, '')] = array;
  }
  return arrays;
}

function* members(view) {
  let end = view.byteLength - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) throw new Error('not an .npz archive');
  let at = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    if (view.getUint16(at + 10, true) !== 0) throw new Error('the archive is compressed; write it with dfq-deploy');
    const size = view.getUint32(at + 24, true), length = view.getUint16(at + 28, true);
    const local = view.getUint32(at + 42, true);
    const name = new TextDecoder().decode(new Uint8Array(view.buffer, at + 46, length));
    // The local header has fields of its own in front of the data.
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    yield { name, start, size };
    at += 46 + length + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
  }
}

function readNpy(buffer) {
  const view = new DataView(buffer), wide = view.getUint8(6) > 1;
  const length = wide ? view.getUint32(8, true) : view.getUint16(8, true), start = (wide ? 12 : 10) + length;
  const header = new TextDecoder().decode(new Uint8Array(buffer, start - length, length));
  const type = /'descr': '([^']*)'/.exec(header)[1], shape = /'shape': \(([^)]*)\)/.exec(header)[1];
  if (!(type in ARRAYS)) return null;
  return {
    data: new ARRAYS[type](buffer.slice(start)),
    shape: shape.split(',').filter((part) => part.trim()).map(Number),
  };
}
