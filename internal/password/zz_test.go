package password
import ("testing";"os";"encoding/json";"math/rand/v2";"encoding/binary";"unicode/utf8")
func TestZZ(t *testing.T){
 b,_:=os.ReadFile("/tmp/wl/package/src/passwords.json"); var w []string; json.Unmarshal(b,&w)
 n,bad,miss:=0,0,0
 for _,x:=range w { if utf8.RuneCountInString(x)<8 {continue}; n++; if score(fold(x),known(Person{}))>=minScore {bad++}; if !isCommon(commonList,x){miss++} }
 fp:=0; var buf [16]byte
 for range 20_000_000 { binary.LittleEndian.PutUint64(buf[:],rand.Uint64()); binary.LittleEndian.PutUint64(buf[8:],rand.Uint64()); if listed(commonList,string(buf[:])){fp++} }
 t.Logf("n=%d score>=3: %d missing %d fp %d/20M", n,bad,miss,fp)
 for _,x:=range []string{"correct horse battery staple","steward-dev-password"} { t.Log(x,isCommon(commonList,x)) }
}
