// Which release of Errand this is, for whoever asks without loading it.
// Next room: main.ts, which prints it; composition/build.ts, where the parts tell it.
export const release = '0.1.0';
